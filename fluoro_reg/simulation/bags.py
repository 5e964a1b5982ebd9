"""Simulated recordings: a rosbag2 of a C-arm that moves around the AP view, with the true pose of every frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import radians
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.aim import aim_point, bone_points
from fluoro_reg.carm.dimensions import DETECTOR_MM, SOURCE_TO_OBJECT_MM
from fluoro_reg.carm.pose_sampling import perturb_to_mtre, smooth_motion
from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.carm.views import BONE_SAMPLES, TARGETS, carm_camera, targets_in_view
from fluoro_reg.config import option
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.formats.bags import FIRST_STAMP_NS, BagFrame, write_bag, write_bag_truth
from fluoro_reg.formats.cameras import write_camera
from fluoro_reg.formats.folders import create_empty_folder
from fluoro_reg.formats.landmarks import write_landmarks
from fluoro_reg.formats.poses import write_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.progress import Progress
from fluoro_reg.simulation.body_motion import BodyFiles, BodyScene
from fluoro_reg.simulation.metal import Cylinder
from fluoro_reg.simulation.moved_bodies import MovableBodies
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.simulator import XraySimulator, blank_xray
from fluoro_reg.simulation.variants import VARIANTS, aim_for_variant, options_for_variant, tools_for_variant


@dataclass(frozen=True, slots=True)
class BagOptions:
    """Options of a recording of a C-arm that moves around the AP view."""

    frames: int = option(40, "number of frames", minimum=1, maximum=100000)
    blank: tuple[int, ...] = option(
        (11, 22, 33), "frames (from 0) without a patient, alternately with the beam off and with an open beam", minimum=0
    )
    rate_hz: float = option(15.0, "frames per second", unit="Hz", minimum=0.1, maximum=1000)
    motion_mm: float = option(12.0, "maximum translation", unit="mm", minimum=0, maximum=200)
    motion_deg: float = option(5.0, "maximum rotation", unit="deg", minimum=0, maximum=45)
    start_mm: float = option(10.0, "mTRE of initial.json against the first frame", unit="mm", minimum=0, maximum=200)
    detector_mm: float = option(DETECTOR_MM, "width and height of the detector", unit="mm", minimum=50, maximum=600)
    size_px: int = option(256, "width and height of the images", unit="px", minimum=32, maximum=4096)
    variant: str = option("standard", "setting of the simulated machine", choices=tuple(VARIANTS))
    storage: str = option("sqlite3", "storage format of the bag", choices=("sqlite3", "mcap"))
    seed: int = option(0, "seed; the same seed gives the same bag", minimum=0)


@dataclass(frozen=True, slots=True)
class SimulatedBag:
    """The files that `simulate_bag` writes."""

    bag: Path
    truth: Path
    initial: Path
    camera: Path
    landmarks: Path


def simulate_bag(
    ct: Path | str,
    out_folder: Path | str,
    options: BagOptions,
    landmarks_patient: Float[Tensor, "n 3"] | None = None,
    progress: Progress | None = None,
    bodies: BodyFiles | None = None,
) -> SimulatedBag:
    """Write `bag/`, `truth.json`, `initial.json`, `camera.json` and `landmarks.json` into a new folder.

    Args:
        ct: The CT to X-ray.
        out_folder: The folder to write, new or empty.
        options: Length, motion, image size and seed of the recording.
        landmarks_patient: Target points in patient mm. By default, points on bone that the first frame shows.
        progress: Called after each frame.
        bodies: Bones of the CT that move on their own, at whose middle the C-arm then aims; `truth.json` also holds their
            poses.

    Returns:
        The paths of the files.

    Raises:
        InputError: The CT or an option is unusable, or the folder is not empty.
    """
    folder, volume = create_empty_folder(out_folder), read_ct(ct)
    generator = torch.Generator().manual_seed(options.seed)
    bone, intrinsics = bone_points(volume, BONE_SAMPLES, generator), carm_camera(options.size_px, options.detector_mm)
    scene = None if bodies is None else BodyScene.read(bodies, volume, generator)
    middle = aim_point(volume, bone) if scene is None else scene.middle()
    aim = aim_for_variant(options.variant, volume, middle, intrinsics, generator)
    first = ap_pose(aim, SOURCE_TO_OBJECT_MM)
    amplitude = (options.motion_mm, radians(options.motion_deg))
    poses = smooth_motion(first, options.frames, aim, amplitude, generator)
    if landmarks_patient is None:
        landmarks_patient = targets_in_view(bone, first, intrinsics, TARGETS)
    initial = perturb_to_mtre(first, landmarks_patient, options.start_mm, volume.centre_patient, generator)
    tools = tools_for_variant(options.variant, landmarks_patient, generator)
    files = SimulatedBag(folder / "bag", *(folder / f"{name}.json" for name in ("truth", "initial", "camera", "landmarks")))
    machine = options_for_variant(options.variant, generator)
    moved = None if scene is None else scene.draw_motion(poses, generator)
    movable = None if scene is None else scene.movable
    cine = _Cine(XraySimulator(volume, machine), machine, poses, intrinsics, tools, movable, moved)
    write_bag(files.bag, _frames(cine, options, generator, progress), options.storage)
    shown = {_stamp_ns(n, options): None if n in options.blank else n for n in range(options.frames)}
    true_poses = {stamp: None if n is None else poses[n] for stamp, n in shown.items()}
    write_bag_truth(files.truth, true_poses, {} if moved is None else {s: moved[n] for s, n in shown.items() if n is not None})
    write_pose(files.initial, initial)
    write_camera(files.camera, intrinsics)
    write_landmarks(files.landmarks, landmarks_patient)
    return files


@dataclass(frozen=True, slots=True)
class _Cine:
    """The parameters that all frames of a bag share, and the true pose of each frame, and of its bones if they move."""

    simulator: XraySimulator
    machine: SimulationOptions
    poses: RigidTransform
    intrinsics: CameraIntrinsics
    tools: tuple[Cylinder, ...]
    movable: MovableBodies | None
    moved: list[dict[str, RigidTransform]] | None


def _frames(cine: _Cine, options: BagOptions, generator: torch.Generator, progress: Progress | None) -> Iterator[BagFrame]:
    for n in range(options.frames):
        if n in options.blank:
            beam_on = options.blank.index(n) % 2 == 1
            pixels = blank_xray(cine.intrinsics, cine.machine, generator, beam_on)
        else:
            moved = None if cine.movable is None or cine.moved is None else (cine.movable, cine.moved[n])
            pixels = cine.simulator.image(cine.poses[n], cine.intrinsics, generator, cine.tools, moved)
        yield BagFrame(_stamp_ns(n, options), pixels, cine.intrinsics)
        if progress is not None:
            progress(n + 1, options.frames)


def _stamp_ns(n: int, options: BagOptions) -> int:
    return FIRST_STAMP_NS + round(n * 1e9 / options.rate_hz)
