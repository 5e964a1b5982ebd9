"""Simulated registration cases: case folders with known true poses, made from any CT.

The mTRE of an initial pose is uniform over a band, so that success rates are comparable between CTs. Cases differ in their view
and in their variant. A variant is a setting of the simulated machine with its own imaging problem, or a truncated CT. Bands and
variants are crossed: the band changes with every case, and the variant each time all bands have been used. With a crop, the CT
of all cases is smaller than the patient.
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
from fluoro_reg.formats.body_truth import write_body_truths
from fluoro_reg.formats.cases import RegistrationCase, default_ct_name, write_case
from fluoro_reg.formats.folders import create_empty_folder
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.progress import Progress
from fluoro_reg.simulation.body_motion import BodyFiles, BodyScene
from fluoro_reg.simulation.crop import CROPS, contains, crop_ct
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.second_view import second_view_pose, write_second_view
from fluoro_reg.simulation.simulator import XraySimulator
from fluoro_reg.simulation.truncation import truncate_ct, write_volume
from fluoro_reg.simulation.variants import CASE_VARIANTS, TRUNCATED, aim_for_variant, options_for_variant, tools_for_variant
from fluoro_reg.xray.image import Intensity


@dataclass(frozen=True, slots=True)
class CaseOptions:
    """Number and difficulty of the cases."""

    count: int = option(30, "number of cases", minimum=1, maximum=100000)
    start_mm: tuple[tuple[float, float], ...] = option(
        ((10.0, 25.0),), "bands of the initial pose's mTRE, used in turn", unit="mm", minimum=0, maximum=200
    )
    size_px: int = option(256, "width and height of the image", unit="px", minimum=32, maximum=4096)
    variants: tuple[str, ...] = option(
        ("standard", "noisy", "mismatch", "collimated"),
        "variants, used in turn, each with all bands",
        choices=CASE_VARIANTS,
    )
    crop: str = option(
        "none",
        "part of the CT that is registered; the X-rays show the whole CT, and a part is written as ct_<crop>.nii.gz",
        choices=CROPS,
    )
    oblique_fraction: float = option(0.3, "fraction of oblique views", minimum=0, maximum=1)
    second_view_deg: float = option(
        0.0,
        "rotation of the C-arm about the patient between the X-ray and a second X-ray of each case; 0: no second X-ray",
        unit="deg",
        minimum=-180,
        maximum=180,
    )
    seed: int = option(0, "seed; the same seed gives the same cases", minimum=0)


def simulate_cases(
    ct: Path | str,
    out_folder: Path | str,
    options: CaseOptions,
    landmarks_patient: Float[Tensor, "n 3"] | None = None,
    progress: Progress | None = None,
    carm: CarmRange | None = None,
    bodies: BodyFiles | None = None,
) -> list[Path]:
    """Write the case folders `case_000`, `case_001`, ... into a new folder.

    A second X-ray is written as `image2.png`, described by `view.json`. Landmarks lie in the CT that is registered, and
    initial poses are rotated about its centre.

    Args:
        ct: The CT to X-ray.
        out_folder: The folder to write, new or empty.
        options: Number and difficulty of the cases.
        landmarks_patient: Target points in patient mm for all cases. By default, each case has points on bone that its image
            shows.
        progress: Called after each case.
        carm: Views and camera of a particular C-arm. By default, AP and oblique views and a generic camera.
        bodies: The bones to move, by the ranges in their file. The true pose of each is written as `bodies.json`.

    Returns:
        The case folders.

    Raises:
        InputError: The CT or an option is unusable, a given landmark lies outside the cropped CT, or the folder is not empty.
    """
    _check_options(options)
    folder, volume = create_empty_folder(out_folder), read_ct(ct)
    generator = torch.Generator().manual_seed(options.seed)
    bone = bone_points(volume, BONE_SAMPLES, generator)
    aim = aim_point(volume, bone)
    camera = carm_camera(options.size_px) if carm is None else carm.camera(options.size_px)
    scene = _Scene(volume, bone, camera, Path(ct), default_ct_name(ct))
    if options.crop != "none" and bodies is not None:
        raise InputError("bodies move within the whole CT; leave --crop out, or --bodies")
    if options.crop != "none":
        scene = _cropped_scene(scene, options.crop, folder, landmarks_patient, generator)
    scenes = dict.fromkeys(options.variants, scene)
    if TRUNCATED in scenes:
        scenes[TRUNCATED] = _truncated_scene(scene, aim, folder / "ct_truncated.nii.gz", generator)
    whole_ct = XraySimulator(volume, SimulationOptions())
    moving = None if bodies is None else BodyScene.read(bodies, volume, generator)
    if moving is not None and landmarks_patient is None:
        scenes = {name: _on_reference(one, moving) for name, one in scenes.items()}
    written = []
    for n in range(options.count):
        band = options.start_mm[n % len(options.start_mm)]
        variant = options.variants[n // len(options.start_mm) % len(options.variants)]
        machine = options_for_variant(variant, generator)
        view_aim = aim_for_variant(variant, volume, aim, camera, generator)
        truth = carm.sample(view_aim, 1, generator)[0] if carm else random_view(view_aim, options.oblique_fraction, generator)
        spec = _CaseSpec(folder / f"case_{n:03d}", variant, band, Intensity(machine.polarity))
        case = _make_case(scenes[variant], spec, truth, landmarks_patient, generator)
        tools = tools_for_variant(variant, case.landmarks_patient, generator)
        simulator = whole_ct.with_options(machine)
        moved = None if moving is None else (moving.movable, moving.draw(truth, generator))
        if moving is not None and moved is not None and bodies is not None:
            case = replace(case, bodies=bodies.bodies, labels=bodies.labels)
        write_case(case, simulator.image(truth, camera, generator, tools, moved))
        if moving is not None and moved is not None:
            write_body_truths(case.folder / "bodies.json", moving.truths(truth, moved[1], camera))
        if options.second_view_deg:
            pose = second_view_pose(case, options.second_view_deg)
            noise = torch.Generator().manual_seed(options.seed + n)  # separate, so that second views do not change the cases
            if moved is not None:
                from_first = pose @ truth.inverse()
                moved = moved[0], {name: from_first @ body for name, body in moved[1].items()}
            write_second_view(case, pose, simulator.image(pose, camera, noise, tools, moved))
        written.append(case.folder)
        if progress is not None:
            progress(n + 1, options.count)
    return written


@dataclass(frozen=True, slots=True)
class _Scene:
    """The parameters that all cases of one CT share."""

    volume: CTVolume
    bone_patient: Float[Tensor, "n 3"]
    intrinsics: CameraIntrinsics
    ct: Path
    ct_name: str


@dataclass(frozen=True, slots=True)
class _CaseSpec:
    """Folder, variant, initial error and polarity of a case to be made."""

    folder: Path
    variant: str
    start_band_mm: tuple[float, float]
    intensity: Intensity


def _check_options(options: CaseOptions) -> None:
    for low, high in options.start_mm:
        if low > high:
            raise InputError(f"a band of the initial mTRE must be [low, high] with low <= high, got {low} to {high} mm")
    if not options.start_mm:
        raise InputError("give at least one band of the initial mTRE, [low, high] in mm")
    if not options.variants or not set(options.variants) <= set(CASE_VARIANTS):
        got = ", ".join(options.variants) or "none"
        raise InputError(f"give at least one variant of: {', '.join(CASE_VARIANTS)}; got: {got}")


def _cropped_scene(
    scene: _Scene, crop: str, folder: Path, landmarks_patient: Float[Tensor, "n 3"] | None, generator: torch.Generator
) -> _Scene:
    """Crop the CT, write it to a file and take the target points from its bone only."""
    part = crop_ct(scene.volume, crop, aim_point(scene.volume, scene.bone_patient))
    outside = 0 if landmarks_patient is None else int((~contains(part, landmarks_patient)).sum())
    if outside:
        raise InputError(f"{outside} of the given landmarks lie outside the cropped CT; give landmarks inside it, or no crop")
    bone, path = bone_points(part, BONE_SAMPLES, generator), folder / f"ct_{crop}.nii.gz"
    return replace(scene, volume=part, bone_patient=bone, ct=write_volume(path, part), ct_name=f"{scene.ct_name} {crop}")


def _truncated_scene(full_scene: _Scene, aim_patient: Float[Tensor, "3"], path: Path, generator: torch.Generator) -> _Scene:
    """Truncate the CT, write it to a file and take the target points from its bone only."""
    part = truncate_ct(full_scene.volume, aim_patient)
    bone = bone_points(part, BONE_SAMPLES, generator)
    return replace(full_scene, volume=part, bone_patient=bone, ct=write_volume(path, part))


def _on_reference(scene: _Scene, moving: BodyScene) -> _Scene:
    """Take the target points from the reference body only, if it is labelled: the others have errors of their own."""
    points = moving.points.get(moving.config.reference)
    return scene if points is None else replace(scene, bone_patient=points)


def _make_case(
    scene: _Scene,
    spec: _CaseSpec,
    truth: RigidTransform,
    landmarks_patient: Float[Tensor, "n 3"] | None,
    generator: torch.Generator,
) -> RegistrationCase:
    if landmarks_patient is None:
        landmarks_patient = targets_in_view(scene.bone_patient, truth, scene.intrinsics, TARGETS)
    low, high = spec.start_band_mm
    start_mm = low + (high - low) * torch.rand(1, generator=generator).item()
    return RegistrationCase(
        folder=spec.folder,
        ct=scene.ct,
        image=spec.folder / "image.png",
        intensity=spec.intensity,
        intrinsics=scene.intrinsics,
        initial=perturb_to_mtre(truth, landmarks_patient, start_mm, scene.volume.centre_patient, generator),
        truth=truth,
        landmarks_patient=landmarks_patient,
        ct_name=scene.ct_name,
        variant=spec.variant,
        start_band_mm=spec.start_band_mm,
    )
