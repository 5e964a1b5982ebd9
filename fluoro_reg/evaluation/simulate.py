"""Registration problems with known answers, from any CT: case folders, or a rosbag2 of a moving C-arm.

The start's error is drawn evenly from a band of mTRE, so that a success rate means the same for every CT; what differs between
cases is a view and a variant, which is a setting of the simulated machine that goes wrong in a way of its own, or a CT that
ends too soon. Bands and variants are crossed: bands change from case to case, and variants whenever all bands had their turn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import radians
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.bag import FIRST_STAMP_NS, BagFrame, write_bag, write_bag_truth
from fluoro_reg.evaluation.carm_range import CarmRange
from fluoro_reg.evaluation.cases import RegistrationCase, name_of_ct, write_case, write_landmarks
from fluoro_reg.evaluation.metal import Cylinder, k_wire, screw
from fluoro_reg.evaluation.second_view import turned, write_second_view
from fluoro_reg.evaluation.simulation import SimulationOptions, XraySimulator, blank_xray
from fluoro_reg.evaluation.truncation import truncated, write_volume
from fluoro_reg.evaluation.views import (
    BONE_SAMPLES,
    SOURCE_TO_OBJECT_MM,
    TARGETS,
    aim_point,
    bone_points,
    carm_camera,
    random_view,
    targets_in_view,
)
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.geometry.files import write_camera, write_pose
from fluoro_reg.geometry.pose_sampling import ap_pose, perturb_to_mtre, smooth_motion
from fluoro_reg.xray.image import Intensity

Progress = Callable[[int, int], None]

VARIANTS = {
    "standard": SimulationOptions(),
    "noisy": SimulationOptions(photons=400, electronic_noise=0.006),
    "mismatch": SimulationOptions(peak_kv=95, scatter_fraction=0.45, gamma=0.6, heel=0.3, vignetting=0.3),
    "collimated": SimulationOptions(collimator="circle", collimator_opening=0.95, gamma=0.8),
    "instruments": SimulationOptions(gamma=0.8),
}
TRUNCATED = "truncated"  # the standard machine, but what is registered is a part of the CT
CASE_VARIANTS = (*VARIANTS, TRUNCATED)
_WITH_TOOLS = ("instruments",)


@dataclass(frozen=True, slots=True)
class CaseOptions:
    """How many cases, how hard."""

    count: int = option(30, "number of cases", minimum=1, maximum=100000)
    start_mm: tuple[tuple[float, float], ...] = option(
        ((10.0, 25.0),), "bands of the start's mTRE, taken in turn", unit="mm", minimum=0, maximum=200
    )
    size_px: int = option(256, "width and height of the image", unit="px", minimum=32, maximum=4096)
    variants: tuple[str, ...] = option(
        ("standard", "noisy", "mismatch", "collimated"), "taken in turn, after the bands", choices=CASE_VARIANTS
    )
    oblique_share: float = option(0.3, "share of oblique views", minimum=0, maximum=1)
    second_view_deg: float = option(
        0.0,
        "the C-arm's turn about the patient to a second X-ray of each case; 0: none",
        unit="deg",
        minimum=-180,
        maximum=180,
    )
    seed: int = option(0, "makes the same cases again", minimum=0)


@dataclass(frozen=True, slots=True)
class BagOptions:
    """A cine of a moving C-arm about AP."""

    frames: int = option(40, "number of frames", minimum=1, maximum=100000)
    blank: tuple[int, ...] = option((11, 22, 33), "frames (from 0) of no patient: beam off, open beam, in turn", minimum=0)
    rate_hz: float = option(15.0, "frames per second", unit="Hz", minimum=0.1, maximum=1000)
    motion_mm: float = option(12.0, "greatest excursion", unit="mm", minimum=0, maximum=200)
    motion_deg: float = option(5.0, "greatest rotation", unit="deg", minimum=0, maximum=45)
    start_mm: float = option(10.0, "mTRE of initial.json against the first frame", unit="mm", minimum=0, maximum=200)
    size_px: int = option(256, "width and height of the images", unit="px", minimum=32, maximum=4096)
    variant: str = option("standard", "setting of the simulated machine", choices=tuple(VARIANTS))
    storage: str = option("sqlite3", "storage of the bag", choices=("sqlite3", "mcap"))
    seed: int = option(0, "makes the same bag again", minimum=0)


@dataclass(frozen=True, slots=True)
class SimulatedBag:
    """What `simulate_bag` wrote."""

    bag: Path
    truth: Path
    initial: Path
    camera: Path
    landmarks: Path


def simulate_cases(
    ct: Path | str,
    out_folder: Path | str,
    options: CaseOptions,
    landmarks_patient: Float[Tensor, "n 3"] | None = None,
    progress: Progress | None = None,
    carm: CarmRange | None = None,
) -> list[Path]:
    """Writes `case_000` and on into a new folder and returns them; `progress` is called with (done, of). A second X-ray is
    `image2.png`, and `view.json` about it.

    Without landmarks every case has its own: points in the bone that its image shows. With a range of the C-arm, views and
    camera are its own.

    Raises:
        InputError: an unusable CT or option, or a folder that holds something already.
    """
    _check(options)
    folder, volume = _new_folder(out_folder), read_ct(ct)
    generator = torch.Generator().manual_seed(options.seed)
    bone = bone_points(volume, BONE_SAMPLES, generator)
    aim = aim_point(volume, bone)
    camera = carm_camera(options.size_px) if carm is None else carm.camera(options.size_px)
    whole = _Scene(volume, bone, camera, Path(ct), name_of_ct(ct))
    scenes = dict.fromkeys(options.variants, whole)
    if TRUNCATED in scenes:
        scenes[TRUNCATED] = _truncated_scene(whole, aim, folder / "ct_truncated.nii.gz", generator)
    simulators = {variant: XraySimulator(volume, VARIANTS.get(variant, SimulationOptions())) for variant in scenes}
    written = []
    for n in range(options.count):
        band = options.start_mm[n % len(options.start_mm)]
        variant = options.variants[n // len(options.start_mm) % len(options.variants)]
        truth = random_view(aim, options.oblique_share, generator) if carm is None else carm.sample(aim, 1, generator)[0]
        example = _Example(folder / f"case_{n:03d}", variant, band)
        case = _case(scenes[variant], example, truth, landmarks_patient, generator)
        tools = _tools(variant, case.landmarks_patient, generator)
        write_case(case, simulators[variant].image(truth, whole.intrinsics, generator, tools))
        if options.second_view_deg:
            side = turned(case, options.second_view_deg)
            noise = torch.Generator().manual_seed(options.seed + n)  # of its own: the cases are those without a second view
            write_second_view(case, side, simulators[variant].image(side, whole.intrinsics, noise, tools))
        written.append(case.folder)
        if progress is not None:
            progress(n + 1, options.count)
    return written


def simulate_bag(
    ct: Path | str,
    out_folder: Path | str,
    options: BagOptions,
    landmarks_patient: Float[Tensor, "n 3"] | None = None,
    progress: Progress | None = None,
) -> SimulatedBag:
    """Writes `bag/`, `truth.json`, `initial.json`, `camera.json` and `landmarks.json` into a new folder.

    Raises:
        InputError: an unusable CT or option, or a folder that holds something already.
    """
    folder, volume = _new_folder(out_folder), read_ct(ct)
    generator = torch.Generator().manual_seed(options.seed)
    bone, intrinsics = bone_points(volume, BONE_SAMPLES, generator), carm_camera(options.size_px)
    aim = aim_point(volume, bone)
    first = ap_pose(aim, SOURCE_TO_OBJECT_MM)
    amplitude = (options.motion_mm, radians(options.motion_deg))
    poses = smooth_motion(first, options.frames, aim, amplitude, generator)
    if landmarks_patient is None:
        landmarks_patient = targets_in_view(bone, first, intrinsics, TARGETS)
    initial = perturb_to_mtre(first, landmarks_patient, options.start_mm, volume.centre_patient, generator)
    tools = _tools(options.variant, landmarks_patient, generator)
    files = SimulatedBag(folder / "bag", *(folder / f"{name}.json" for name in ("truth", "initial", "camera", "landmarks")))
    cine = _Cine(XraySimulator(volume, VARIANTS[options.variant]), poses, intrinsics, tools)
    write_bag(files.bag, _frames(cine, options, generator, progress), options.storage)
    shown = {_stamp_ns(n, options): None if n in options.blank else poses[n] for n in range(options.frames)}
    write_bag_truth(files.truth, shown)
    write_pose(files.initial, initial)
    write_camera(files.camera, intrinsics)
    write_landmarks(files.landmarks, landmarks_patient)
    return files


@dataclass(frozen=True, slots=True)
class _Scene:
    """What all cases of one CT share."""

    volume: CTVolume
    bone_patient: Float[Tensor, "n 3"]
    intrinsics: CameraIntrinsics
    ct: Path
    ct_name: str


@dataclass(frozen=True, slots=True)
class _Example:
    """What a case is to be an example of."""

    folder: Path
    variant: str
    start_band_mm: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Cine:
    """What all frames of a bag share, and where the C-arm is in each."""

    simulator: XraySimulator
    poses: RigidTransform
    intrinsics: CameraIntrinsics
    tools: tuple[Cylinder, ...]


def _frames(cine: _Cine, options: BagOptions, generator: torch.Generator, progress: Progress | None) -> Iterator[BagFrame]:
    for n in range(options.frames):
        if n in options.blank:
            beam_on = options.blank.index(n) % 2 == 1
            pixels = blank_xray(cine.intrinsics, VARIANTS[options.variant], generator, beam_on)
        else:
            pixels = cine.simulator.image(cine.poses[n], cine.intrinsics, generator, cine.tools)
        yield BagFrame(_stamp_ns(n, options), pixels, cine.intrinsics)
        if progress is not None:
            progress(n + 1, options.frames)


def _check(options: CaseOptions) -> None:
    for low, high in options.start_mm:
        if low > high:
            raise InputError(f"the start's band must run from less to more mTRE, got {low} to {high} mm")
    if not options.start_mm:
        raise InputError("name at least one band of the start's mTRE, [low, high] in mm")
    if not options.variants or not set(options.variants) <= set(CASE_VARIANTS):
        got = ", ".join(options.variants) or "none"
        raise InputError(f"name at least one variant of: {', '.join(CASE_VARIANTS)}; got: {got}")


def _truncated_scene(whole: _Scene, aim_patient: Float[Tensor, "3"], path: Path, generator: torch.Generator) -> _Scene:
    """The part of the CT that is registered, written to a file; its bone alone has target points."""
    part = truncated(whole.volume, aim_patient)
    bone = bone_points(part, BONE_SAMPLES, generator)
    return replace(whole, volume=part, bone_patient=bone, ct=write_volume(path, part))


def _case(
    scene: _Scene,
    example: _Example,
    truth: RigidTransform,
    landmarks_patient: Float[Tensor, "n 3"] | None,
    generator: torch.Generator,
) -> RegistrationCase:
    if landmarks_patient is None:
        landmarks_patient = targets_in_view(scene.bone_patient, truth, scene.intrinsics, TARGETS)
    low, high = example.start_band_mm
    start_mm = low + (high - low) * torch.rand(1, generator=generator).item()
    return RegistrationCase(
        folder=example.folder,
        ct=scene.ct,
        image=example.folder / "image.png",
        intensity=Intensity.TRANSMITTED,
        intrinsics=scene.intrinsics,
        initial=perturb_to_mtre(truth, landmarks_patient, start_mm, scene.volume.centre_patient, generator),
        truth=truth,
        landmarks_patient=landmarks_patient,
        ct_name=scene.ct_name,
        variant=example.variant,
        start_band_mm=example.start_band_mm,
    )


def _tools(variant: str, targets_patient: Float[Tensor, "n 3"], generator: torch.Generator) -> tuple[Cylinder, ...]:
    """Two wires and a screw that end at target points, in the variants that have instruments."""
    if variant not in _WITH_TOOLS:
        return ()
    tips = targets_patient[torch.randperm(len(targets_patient), generator=generator)[:3]].double()
    return (*k_wire(tips[0], generator), *k_wire(tips[1], generator), *screw(tips[2], generator))


def _stamp_ns(n: int, options: BagOptions) -> int:
    return FIRST_STAMP_NS + round(n * 1e9 / options.rate_hz)


def _new_folder(out_folder: Path | str) -> Path:
    folder = Path(out_folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder.name} holds something already; give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
