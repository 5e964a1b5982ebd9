"""A recording of one's own, bag or cine, with its CT and true poses, as cases: one a frame that is readable and has a pose.

What a case reads is what `replay` reads of that frame. A cine's cases name the cine and the number of the frame, because its
shutters, display turns and meaning of the numbers have no other file to be in. A bag's frames are written as float32, which
holds 8 and 16 bits exactly and is what registrations compute with, NaN where the bag's were not finite.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.aim import bone_points
from fluoro_reg.carm.views import BONE_SAMPLES, TARGETS, targets_in_view
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.datasets.export import InitialPoseOptions, random_initial_pose
from fluoro_reg.formats.cases import RegistrationCase, write_case
from fluoro_reg.formats.folders import new_folder
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.formats.recordings import RecordedFrame, Source, read_truth, recorded_frames
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.progress import Progress
from fluoro_reg.xray.image import Intensity, XrayImage

Landmarks = Callable[[RigidTransform, CameraIntrinsics], Float[Tensor, "n 3"]]


@dataclass(frozen=True, slots=True)
class RecordingFiles:
    """The recording and what is known about it; without landmarks each case has points of bone that its image shows."""

    recording: Path
    ct: Path
    truth: Path
    landmarks: Path | None = None


@dataclass(frozen=True, slots=True)
class ExportedRecording:
    """The cases, and how many frames became none: for want of a true pose, or because they cannot be read."""

    cases: list[Path]
    without_truth: int
    unreadable: int


def cases_from_recording(
    files: RecordingFiles,
    out_folder: Path | str,
    source: Source | None = None,
    options: InitialPoseOptions | None = None,
    progress: Progress | None = None,
) -> ExportedRecording:
    """Writes `<recording>_<frame>` case folders into a new folder; `progress` is called with (done, of).

    Raises:
        InputError: an unusable file, a folder that holds something already, or not one frame that can be a case.
    """
    source = source or Source()
    frames, truth = recorded_frames(files.recording, source), read_truth(files.truth)
    writer = _case_writer(files, source, options or InitialPoseOptions())
    folder, total = new_folder(out_folder), sum(pose is not None for pose in truth.poses.values())
    cases: list[Path] = []
    refusals: list[str] = []
    stamps: list[int] = []
    for frame in frames:
        pose = truth.of(frame)
        if pose is None:
            stamps.append(frame.stamp_ns)
            continue
        try:
            image = frame.xray()
        except InputError as error:
            refusals.append(str(error))
            continue
        cases.append(writer.write(folder / f"{_name(files.recording)}_{frame.number:04d}", frame, image, pose))
        if progress is not None:
            progress(len(cases), total)
    if refusals and not cases:
        raise InputError(f"none of the {len(refusals)} frames with a true pose can be read; the first: {refusals[0]}")
    if not cases:
        raise InputError(
            f"{files.truth.name} has no pose of any of the {len(stamps)} frames of {files.recording.name}, which are numbered "
            f"from 0 and have stamps from {stamps[0]} to {stamps[-1]} ns"
        )
    return ExportedRecording(cases, len(stamps), len(refusals))


@dataclass(frozen=True, slots=True)
class _CaseWriter:
    """What all cases of a recording share; `landmarks` gives those of one view."""

    ct: Path
    centre_patient: Float[Tensor, "3"]
    landmarks: Landmarks
    intensity: Intensity
    start: InitialPoseOptions

    def write(self, folder: Path, frame: RecordedFrame, image: XrayImage, truth: RigidTransform) -> Path:
        """The case's folder; a cine's refers to the cine."""
        landmarks = self.landmarks(truth, image.intrinsics)
        case = RegistrationCase(
            folder=folder,
            ct=self.ct,
            image=frame.file or folder / "image.npy",
            intensity=self.intensity,
            intrinsics=image.intrinsics,
            initial=random_initial_pose(folder.name, truth, landmarks, self.centre_patient, self.start),
            truth=truth,
            landmarks_patient=landmarks,
            frame=frame.number if frame.file else 0,
        )
        write_case(case)
        if frame.file is None:
            np.save(case.image, torch.where(image.mask, image.pixels, torch.nan).numpy())
        return folder


def _case_writer(files: RecordingFiles, source: Source, start: InitialPoseOptions) -> _CaseWriter:
    given = None if files.landmarks is None else read_landmarks(files.landmarks)
    volume = read_ct(files.ct)
    landmarks = _bone_in_view(volume, start.seed) if given is None else lambda *_: given
    return _CaseWriter(files.ct, volume.centre_patient, landmarks, source.intensity, start)


def _bone_in_view(volume: CTVolume, seed: int) -> Landmarks:
    bone = bone_points(volume, BONE_SAMPLES, torch.Generator().manual_seed(seed))
    return lambda truth, intrinsics: targets_in_view(bone, truth, intrinsics, TARGETS)


def _name(recording: Path) -> str:
    """The folder's, or the file's without its suffix."""
    path = recording.resolve()
    return path.name if path.is_dir() else path.stem
