"""Registration of real biplane frames of a wrist, one bone at a time, with one view and with two, from seeded initial poses.

    python benchmarks/wrist_biplane.py FOLDER --starts 10 --overlays OUT
    python benchmarks/wrist_biplane.py FOLDER --without-initial

The reference poses are a fit of both views by another program (1 sigma 0.2 to 0.3 mm; 0.5 degrees for the radius, up to 2
degrees about the long axis of the ulna), not ground truth, so the errors are differences from a reference. Errors of one view
are in its camera's axes. A result without a pose counts as a failure. Prints two Markdown tables, or with `--json` one object.
Without initial poses, every direction is searched at about a metre from the source, once for each X-ray; two views need a pose.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.config import from_mapping, merged, parse_overrides
from fluoro_reg.ct.attenuation import AIR_HU, attenuation_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import overlay
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray
from fluoro_reg.xray.view import CalibratedXray

BONES, FRAMES, CAMERAS = ("rad", "uln"), ("0002", "0099"), ("01", "02")
SPACING_MM = (0.39625, 0.39625, 0.625)
HU_OF_ZERO = -1024.0
N_POINTS = 500
RANGE = Path(__file__).resolve().parent / "ranges" / "any_at_a_metre.yaml"
RIGHT_MM, RIGHT_DEG, WRONG_MM = 1.0, 10.0, 2.0


def read_bone(path: Path) -> tuple[CTVolume, torch.Tensor]:
    """Return the CT of one bone in air from a TIFF (page = z), with a sample of the bone's voxels in patient mm."""
    with Image.open(path) as file:
        values = np.stack([np.array(page) for page in ImageSequence.Iterator(file)]).astype(np.float32)
    hu = np.where(values > 0, values + HU_OF_ZERO, AIR_HU).astype(np.float32)
    patient_from_voxel = torch.diag(torch.tensor([*SPACING_MM, 1.0], dtype=torch.float64))
    volume = CTVolume(torch.from_numpy(attenuation_from_hu(hu)), patient_from_voxel)
    voxels = np.argwhere(values > 0)[:, ::-1]
    sample = voxels[:: max(1, len(voxels) // N_POINTS)].astype(np.float64)
    return volume, volume.points_patient(torch.from_numpy(sample))


def read_calibration(path: Path) -> tuple[CameraIntrinsics, RigidTransform]:
    """Read the intrinsics of a camera and `camera_from_world`: blocks of a title and rows of numbers."""
    blocks = {}
    for block in path.read_text().strip().split("\n\n"):
        title, *rows = block.strip().splitlines()
        blocks[title] = np.array([[float(value) for value in row.split(",")] for row in rows])
    width, height = (int(value) for value in blocks["image size"][0])
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3], camera_from_world[:3, 3] = blocks["rotation"], blocks["translation"].ravel()
    k = blocks["camera matrix"].ravel().tolist()
    return CameraIntrinsics.from_k(width, height, k), RigidTransform.from_matrix(camera_from_world, path.name)


def read_views(folder: Path, frame: str) -> list[CalibratedXray]:
    """Return both X-rays of a frame; the reference is the calibration's world."""
    views = []
    for camera in CAMERAS:
        intrinsics, camera_from_world = read_calibration(folder / f"xr_calib_wrist_cam{camera}.txt")
        image = read_xray(folder / f"xr_rad_uln_cam{camera}_UND.{frame}.tif", intrinsics, Intensity.AUTO)
        views.append(CalibratedXray(image, camera_from_world))
    return views


def registrations(
    register: Callable[[RigidTransform | None], RegistrationResult],
    truth: RigidTransform,
    points: torch.Tensor,
    labels: dict[str, str],
    seed: int,
    arguments: argparse.Namespace,
) -> list[tuple[RegistrationResult, dict[str, Any]]]:
    """Register from every initial pose; return the results and their records."""
    results = []
    for k in range(1 if arguments.without_initial else arguments.starts):
        generator = torch.Generator().manual_seed(seed + k)
        low, high = arguments.start_mm
        start_mm = low + (high - low) * float(torch.rand(1, generator=generator))
        searched = arguments.without_initial
        result = register(None if searched else perturb_to_mtre(truth, points, start_mm, points.mean(0), generator))
        pose = result.camera_from_patient
        errors = None if pose is None else target_registration_errors(pose, truth, points)
        record = {
            **labels,
            "start_mm": None if searched else start_mm,
            "truth_among_rivals": truth_among(result, truth, points),
            "mtre_mm": errors.mtre_mm if errors else None,
            "in_plane_mm": errors.in_plane_mm if errors else None,
            "depth_mm": errors.depth_mm if errors else None,
            "rotation_deg": errors.rotation_deg if errors else None,
            "outcome": result.outcome.value,
            "reason": result.reason,
            "seconds": result.elapsed_s,
            "scores": result.scores,
        }
        results.append((result, record))
        if arguments.verbose:
            found = "no pose"
            if errors:
                found = f"{errors.mtre_mm:6.2f} mm, in plane {errors.in_plane_mm:5.2f}, {errors.rotation_deg:5.1f} deg"
            scores = " ".join(f"{name} {value:.2f}" for name, value in result.scores.items())
            verdict = f"{result.outcome.value}, {result.elapsed_s:.2f} s; {scores}"
            begin = "searched" if searched else f"start {start_mm:5.1f} mm"
            if searched:
                among = "" if record["truth_among_rivals"] else "not "
                verdict = f"{len(result.alternatives)} alternatives, reference {among}among all; {verdict}"
            print(f"{' '.join(labels.values())} {begin} -> {found}, {verdict}", flush=True)
    return results


def truth_among(result: RegistrationResult, truth: RigidTransform, points: torch.Tensor) -> bool:
    """Whether the pose or an alternative is right: near the truth in the image plane and in rotation."""
    poses = [result.camera_from_patient, *(other.camera_from_patient for other in result.alternatives)]
    errors = [target_registration_errors(pose, truth, points) for pose in poses if pose is not None]
    return any(one.in_plane_mm < WRONG_MM and one.rotation_deg < RIGHT_DEG for one in errors)


def run(arguments: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """Return one record per registration with one view, and with two."""
    searched = {"initial": {"range": str(RANGE)}} if arguments.without_initial else {}
    options = from_mapping(RegistrationOptions, merged(searched, parse_overrides(arguments.set)))
    references = json.loads((arguments.folder / "reference_poses.json").read_text())["world_from_patient"]
    one, two = [], []
    for bone in BONES:
        volume, points = read_bone(arguments.folder / f"{bone}_dcm_cropped.tif")
        registrar = Registrar(volume, options)
        renderer = make_renderer(volume, options.device)
        for index, frame in enumerate(FRAMES):
            world_from_patient = RigidTransform.from_matrix(references[f"{bone}_{frame}"])
            views = read_views(arguments.folder, frame)
            for number, (camera, view) in enumerate(zip(CAMERAS, views, strict=True)):
                truth = view.camera_from_reference @ world_from_patient
                labels = {"bone": bone, "frame": frame, "camera": camera}
                seed = 1000 * (len(CAMERAS) * index + number)
                register = partial(registrar.register, view.image)
                results = registrations(register, truth, points, labels, seed, arguments)
                one += [record for _, record in results]
                pose = results[0][0].camera_from_patient
                if arguments.overlays and pose is not None:
                    arguments.overlays.mkdir(parents=True, exist_ok=True)
                    image_with_edges = overlay(view.image.pixels, renderer, pose, view.image.intrinsics, truth)
                    Image.fromarray(image_with_edges).save(arguments.overlays / f"{bone}_{frame}_cam{camera}.png")
            if arguments.without_initial:
                continue
            labels = {"bone": bone, "frame": frame, "camera": "both"}
            register = partial(registrar.register_views, views)
            results = registrations(register, world_from_patient, points, labels, 1000 * index, arguments)
            two += [record for _, record in results]
    return one, two


def summarise(records: list[dict], two_views: bool) -> dict[str, float]:
    """Return the figures of some registrations; two views are judged by mTRE, one by its errors in-plane and of rotation."""
    with_pose = [r for r in records if r["mtre_mm"] is not None]
    accepted = [r for r in with_pose if r["outcome"] == "converged"]
    seconds = statistics.median(r["seconds"] for r in records)
    if two_views:
        right = [r for r in with_pose if r["mtre_mm"] < RIGHT_MM]
        return {
            "n": len(records),
            "fraction_under_1_mm": len(right) / len(records),
            "accepted": len(accepted),
            "accepted_over_2_mm": sum(r["mtre_mm"] > WRONG_MM for r in accepted),
            "under_1_mm_and_accepted": sum(r in accepted for r in right),
            "median_seconds": seconds,
        }
    right = [r for r in with_pose if r["in_plane_mm"] < RIGHT_MM and r["rotation_deg"] < RIGHT_DEG]
    return {
        "n": len(records),
        "fraction_under_1_mm_in_plane_and_10_deg": len(right) / len(records),
        "accepted": len(accepted),
        "accepted_over_2_mm_in_plane_or_10_deg": sum(
            r["in_plane_mm"] > WRONG_MM or r["rotation_deg"] > RIGHT_DEG for r in accepted
        ),
        "truth_among_rivals": sum(r["truth_among_rivals"] for r in records),
        "right_but_refused": sum(r not in accepted for r in right),
        "median_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the data folder `xray/wrist_biplane`")
    parser.add_argument("--starts", type=int, default=10, help="seeded initial poses per bone, frame and camera, at least 1")
    parser.add_argument("--start-mm", type=float, nargs=2, default=(3.0, 12.0), help="range of the mTRE of initial poses")
    parser.add_argument("--without-initial", action="store_true", help="search every direction instead of initial poses")
    parser.add_argument("--set", action="append", default=[], help="registration option, key=value")
    parser.add_argument("--overlays", type=Path, help="folder for overlays of one view: the result green, the reference orange")
    parser.add_argument("--verbose", action="store_true", help="print one line per registration")
    parser.add_argument("--json", action="store_true", help="print one JSON object with summary and records")
    arguments = parser.parse_args()
    summary, records = {}, dict(zip(("one view", "two views"), run(arguments), strict=True))
    if arguments.without_initial:
        del records["two views"]
    for views, rows in records.items():
        groups = {bone: [r for r in rows if r["bone"] == bone] for bone in BONES} | {"all": rows}
        summary[views] = {name: summarise(group, views == "two views") for name, group in groups.items()}
    if arguments.json:
        print(json.dumps({"summary": summary, "records": records}))
        return
    for views, columns in summary.items():
        print(f"\n| {views} | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
        for figure in columns["all"]:
            values = [s[figure] for s in columns.values()]
            print(f"| {figure} | " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in values) + " |")


if __name__ == "__main__":
    main()
