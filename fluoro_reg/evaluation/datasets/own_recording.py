"""Export of a recording (bag or cine) with its CT and true poses: one case for each readable frame that has a true pose.

A case has the same image as `replay` reads for that frame. A case of a cine refers to the DICOM file and a frame number,
because shutters, display rotation and pixel semantics are stored only there. The frames of a bag are written as float32, which
represents 8-bit and 16-bit values exactly and is the type that registrations use. Pixels that are not finite are written as
NaN.
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
from fluoro_reg.formats.folders import create_empty_folder
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.formats.recordings import RecordedFrame, RecordingSource, read_recording, read_truth
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.progress import Progress
from fluoro_reg.xray.image import Intensity, XrayImage

LandmarksOfView = Callable[[RigidTransform, CameraIntrinsics], Float[Tensor, "n 3"]]


@dataclass(frozen=True, slots=True)
class RecordingFiles:
    """The recording, its CT and its ground truth. Without landmarks, each case has points on bone that its image shows."""

    recording: Path
    ct: Path
    truth: Path
    landmarks: Path | None = None


@dataclass(frozen=True, slots=True)
class ExportedRecording:
    """The case folders, and the numbers of frames without a true pose and of frames that cannot be read."""

    cases: list[Path]
    without_truth: int
    unreadable: int


def cases_from_recording(
    files: RecordingFiles,
    out_folder: Path | str,
    source: RecordingSource | None = None,
    options: InitialPoseOptions | None = None,
    progress: Progress | None = None,
) -> ExportedRecording:
    """Write a case folder `<recording>_<frame>` for each frame into a new folder.

    Args:
        files: The recording, its CT, true poses and landmarks.
        out_folder: The folder to write, new or empty.
        source: How to read the recording.
        options: Options of the random initial poses.
        progress: Called after each case.

    Raises:
        InputError: A file is unusable, the folder is not empty, or no frame gives a case.
    """
    source = source or RecordingSource()
    frames, truth = read_recording(files.recording, source), read_truth(files.truth)
    writer = _case_writer(files, source, options or InitialPoseOptions())
    folder, total = create_empty_folder(out_folder), sum(pose is not None for pose in truth.poses.values())
    cases: list[Path] = []
    errors: list[str] = []
    stamps: list[int] = []
    for frame in frames:
        pose = truth.pose_of(frame)
        if pose is None:
            stamps.append(frame.stamp_ns)
            continue
        try:
            image = frame.xray()
        except InputError as error:
            errors.append(str(error))
            continue
        cases.append(writer.write(folder / f"{_name(files.recording)}_{frame.number:04d}", frame, image, pose))
        if progress is not None:
            progress(len(cases), total)
    if errors and not cases:
        raise InputError(f"none of the {len(errors)} frames with a true pose can be read; the first: {errors[0]}")
    if not cases:
        raise InputError(
            f"{files.truth.name} has no pose for any of the {len(stamps)} frames of {files.recording.name}; number them from "
            f"0 or use their stamps from {stamps[0]} to {stamps[-1]} ns"
        )
    return ExportedRecording(cases, len(stamps), len(errors))


@dataclass(frozen=True, slots=True)
class _CaseWriter:
    """The parameters that all cases of a recording share; `landmarks` returns the points of one view."""

    ct: Path
    centre_patient: Float[Tensor, "3"]
    landmarks: LandmarksOfView
    intensity: Intensity
    start: InitialPoseOptions

    def write(self, folder: Path, frame: RecordedFrame, image: XrayImage, truth: RigidTransform) -> Path:
        """Write a case folder and return it; a case of a cine refers to the DICOM file."""
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


def _case_writer(files: RecordingFiles, source: RecordingSource, start: InitialPoseOptions) -> _CaseWriter:
    given = None if files.landmarks is None else read_landmarks(files.landmarks)
    volume = read_ct(files.ct)
    landmarks = _visible_bone_points(volume, start.seed) if given is None else lambda *_: given
    return _CaseWriter(files.ct, volume.centre_patient, landmarks, source.intensity, start)


def _visible_bone_points(volume: CTVolume, seed: int) -> LandmarksOfView:
    bone = bone_points(volume, BONE_SAMPLES, torch.Generator().manual_seed(seed))
    return lambda truth, intrinsics: targets_in_view(bone, truth, intrinsics, TARGETS)


def _name(recording: Path) -> str:
    """Return the name of the folder, or of the file without its suffix."""
    path = recording.resolve()
    return path.name if path.is_dir() else path.stem
