"""Registration problems with known answers, from any CT, as case folders.

The start's error is drawn evenly from a band of mTRE, so that a success rate means the same for every CT; what differs between
cases is a view and a variant, which is a setting of the simulated machine that goes wrong in a way of its own, or a CT that
ends too soon. Bands and variants are crossed: bands change from case to case, and variants whenever all bands had their turn.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.aim import aim_point, bone_points
from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.carm.views import BONE_SAMPLES, TARGETS, carm_camera, random_view, targets_in_view
from fluoro_reg.config import option
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cases import RegistrationCase, name_of_ct, write_case
from fluoro_reg.formats.folders import new_folder
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.simulation.second_view import turned, write_second_view
from fluoro_reg.simulation.simulator import SimulationOptions, XraySimulator
from fluoro_reg.simulation.truncation import truncated, write_volume
from fluoro_reg.simulation.variants import CASE_VARIANTS, TRUNCATED, VARIANTS, Progress, tools_of
from fluoro_reg.xray.image import Intensity


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
    oblique_fraction: float = option(0.3, "share of oblique views", minimum=0, maximum=1)
    second_view_deg: float = option(
        0.0,
        "the C-arm's turn about the patient to a second X-ray of each case; 0: none",
        unit="deg",
        minimum=-180,
        maximum=180,
    )
    seed: int = option(0, "makes the same cases again", minimum=0)


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
    folder, volume = new_folder(out_folder), read_ct(ct)
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
        truth = random_view(aim, options.oblique_fraction, generator) if carm is None else carm.sample(aim, 1, generator)[0]
        example = _Example(folder / f"case_{n:03d}", variant, band)
        case = _case(scenes[variant], example, truth, landmarks_patient, generator)
        tools = tools_of(variant, case.landmarks_patient, generator)
        write_case(case, simulators[variant].image(truth, whole.intrinsics, generator, tools))
        if options.second_view_deg:
            side = turned(case, options.second_view_deg)
            noise = torch.Generator().manual_seed(options.seed + n)  # of its own: the cases are those without a second view
            write_second_view(case, side, simulators[variant].image(side, whole.intrinsics, noise, tools))
        written.append(case.folder)
        if progress is not None:
            progress(n + 1, options.count)
    return written


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
