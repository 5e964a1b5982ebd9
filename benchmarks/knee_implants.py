"""Registration of real single-plane knee fluoroscopy, with each implant's STL voxelised as a CT, from seeded initial poses.

    python benchmarks/knee_implants.py FOLDER --starts 10 --overlays OUT
    python benchmarks/knee_implants.py FOLDER --without-initial

The reference poses are fits by people and programs, not ground truth, so the errors are differences from a reference. Prints
one row per registration and a Markdown summary, or with `--json` one object. Without initial poses, every direction is searched
at about a metre from the source, once for each frame; a pose may be wrong if it is rejected, or if it is ambiguous and the
reference is among the alternatives.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.config import from_mapping, merged, parse_overrides
from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3
from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import overlay
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray

RANGE = Path(__file__).resolve().parent / "ranges" / "any_at_a_metre.yaml"
NEAR_MM = 2.0
DISTANCE_MM, PIXEL_MM = 1198.0, 0.373  # calibration.txt
FRAMES = ("AT_K1_V1_0160.tif", "AT_K1_V1_0170.tif", "AT_K1_V1_0180.tif")
IMPLANTS = {"femoral": ("KR_right_7_fem.stl", "fem.jts"), "tibial": ("KR_right_6_tib.stl", "tib.jts")}


def read_stl(path: Path) -> np.ndarray:
    """Read the triangles (n, 3, 3), in mm, of an ASCII STL."""
    lines = (line.split()[1:] for line in path.read_text().splitlines() if line.lstrip().startswith("vertex"))
    return np.array(list(lines), dtype=np.float64).reshape(-1, 3, 3)


def voxelise(triangles: np.ndarray, voxel_mm: float, hu: float) -> CTVolume:
    """Return a solid as a CT, by the parity of each voxel column's crossings with the surface; 2 x 2 columns per voxel."""
    low = triangles.min((0, 1)) - 2 * voxel_mm
    size = np.ceil((triangles.max((0, 1)) + 2 * voxel_mm - low) / voxel_mm).astype(int)
    fine = voxel_mm / 2
    columns = np.zeros((2 * size[2] + 1, 2 * size[1], 2 * size[0]), dtype=np.int32)
    for triangle in (triangles - low) / fine - 0.5:
        _add_crossings(columns, triangle)
    inside = np.cumsum(columns[:-1], axis=0) % 2
    fraction = inside.reshape(size[2], 2, size[1], 2, size[0], 2).mean((1, 3, 5))
    values = (-1000 + (hu + 1000) * fraction).astype(np.float32)
    patient_from_voxel = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    patient_from_voxel[:3, 3] = low + voxel_mm / 2
    return CTVolume(torch.from_numpy(attenuation_from_hu(values)), torch.from_numpy(patient_from_voxel))


def _add_crossings(columns: np.ndarray, triangle: np.ndarray) -> None:
    """Add one where a column (integer x, y) enters or leaves through a triangle."""
    a, b, c = triangle
    det = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    if abs(det) < 1e-12:
        return
    low, high = np.ceil(triangle[:, :2].min(0)).astype(int), np.floor(triangle[:, :2].max(0)).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
    s = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / det
    t = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / det
    hit = (s >= 0) & (t >= 0) & (s + t < 1)
    z = np.ceil(a[2] + s * (b[2] - a[2]) + t * (c[2] - a[2])).astype(int)
    np.add.at(columns, (z[hit], y[hit], x[hit]), 1)


def reference_poses(path: Path) -> list[RigidTransform]:
    """Read `camera_from_patient` of every frame: X_cam = Rz Rx Ry X + t, with y up and the object at negative z."""
    rows = [line.replace(",", " ").split() for line in path.read_text().splitlines()[2:]]
    poses = []
    for x, y, z, about_z, about_x, about_y in ([float(v) for v in row] for row in rows if len(row) == 6):
        rotations = [so3.exp(torch.tensor(v, dtype=torch.float64)) for v in _rotation_vectors(about_z, about_x, about_y)]
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
        translation = torch.tensor([x, y, z], dtype=torch.float64)
        poses.append(RigidTransform(flip @ rotations[0] @ rotations[1] @ rotations[2], flip @ translation))
    return poses


def _rotation_vectors(about_z: float, about_x: float, about_y: float) -> list[list[float]]:
    z, x, y = (math.radians(a) for a in (about_z, about_x, about_y))
    return [[0.0, 0.0, z], [x, 0.0, 0.0], [0.0, y, 0.0]]


def truth_among(result: RegistrationResult, truth: RigidTransform, points: torch.Tensor) -> bool:
    """Whether the pose or an alternative is within `NEAR_MM` of the truth in the image plane."""
    poses = [result.camera_from_patient, *(other.camera_from_patient for other in result.alternatives)]
    return any(target_registration_errors(pose, truth, points).in_plane_mm < NEAR_MM for pose in poses if pose is not None)


def run(arguments: argparse.Namespace) -> list[dict]:
    """Return one record per registration."""
    focal = DISTANCE_MM / PIXEL_MM
    camera = CameraIntrinsics.from_k(1024, 1024, [focal, 0, 511.5, 0, focal, 511.5, 0, 0, 1], DISTANCE_MM)
    searched = {"initial": {"range": str(RANGE)}} if arguments.without_initial else {}
    options = from_mapping(RegistrationOptions, merged(searched, parse_overrides(arguments.set)))
    records = []
    for implant, (surface, poses) in IMPLANTS.items():
        triangles = read_stl(arguments.folder / surface)
        registrar = Registrar(voxelise(triangles, arguments.voxel_mm, arguments.hu), options)
        points = torch.from_numpy(triangles[:: max(1, len(triangles) // 200), 0].copy())
        for index, (frame, truth) in enumerate(zip(FRAMES, reference_poses(arguments.folder / poses), strict=True)):
            image = read_xray(arguments.folder / frame, camera, Intensity.AUTO)
            for k in range(1 if arguments.without_initial else arguments.starts):
                generator = torch.Generator().manual_seed(1000 * index + k)
                span = arguments.start_mm[1] - arguments.start_mm[0]
                start_mm = arguments.start_mm[0] + span * float(torch.rand(1, generator=generator))
                start = None
                if not arguments.without_initial:
                    start = perturb_to_mtre(truth, points, start_mm, points.mean(0), generator)
                clock_start = time.perf_counter()
                result = registrar.register(image, start)
                seconds = time.perf_counter() - clock_start
                if result.camera_from_patient is None:
                    raise SystemExit(f"{frame}: {result.reason}")
                errors = target_registration_errors(result.camera_from_patient, truth, points)
                record = {
                    "implant": implant,
                    "frame": frame,
                    "start_mm": None if start is None else start_mm,
                    "truth_among_rivals": truth_among(result, truth, points),
                    "mtre_mm": errors.mtre_mm,
                    "in_plane_mm": errors.in_plane_mm,
                    "depth_mm": errors.depth_mm,
                    "outcome": result.outcome.value,
                    "similarity": result.similarity,
                    "seconds": seconds,
                    "scores": result.scores,
                    "n_renders": result.n_renders,
                }
                records.append(record)
                if not arguments.json:
                    errors_text = f"{errors.mtre_mm:6.2f} mm, in plane {errors.in_plane_mm:5.2f}, depth {errors.depth_mm:6.2f}"
                    verdict = f"{record['outcome']}, similarity {result.similarity:.2f}, {seconds:.2f} s"
                    if start is None:
                        rivals = f"{len(result.alternatives)} alternatives"
                        verdict += f", {rivals}, reference {'' if record['truth_among_rivals'] else 'not '}among all"
                    begin = "searched" if start is None else f"start {start_mm:5.1f} mm"
                    print(f"{implant:8s} {frame} {begin} -> {errors_text}, {verdict}", flush=True)
                if arguments.overlays and k == 0:
                    arguments.overlays.mkdir(parents=True, exist_ok=True)
                    renderer = make_renderer(registrar.ct, options.device)
                    image_with_edges = overlay(image.pixels, renderer, result.camera_from_patient, camera)
                    Image.fromarray(image_with_edges).save(arguments.overlays / f"{implant}_{Path(frame).stem}.png")
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--starts", type=int, default=10, help="seeded initial poses per frame")
    parser.add_argument("--start-mm", type=float, nargs=2, default=(3.0, 12.0), help="range of the mTRE of initial poses")
    parser.add_argument("--without-initial", action="store_true", help="search every direction instead of initial poses")
    parser.add_argument("--voxel-mm", type=float, default=0.6)
    parser.add_argument("--hu", type=float, default=3071.0, help="HU of the metal")
    parser.add_argument("--set", action="append", default=[], help="registration option, key=value")
    parser.add_argument("--overlays", type=Path, help="folder for one overlay per frame and implant")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    records = run(arguments)
    summary = {}
    for implant in IMPLANTS:
        rows = [r for r in records if r["implant"] == implant]
        summary[implant] = {
            "n": len(rows),
            "fraction_under_10_mm": sum(r["mtre_mm"] < 10 for r in rows) / len(rows),
            "fraction_under_1_mm_in_plane": sum(r["in_plane_mm"] < 1 for r in rows) / len(rows),
            "median_mtre_mm": statistics.median(r["mtre_mm"] for r in rows),
            "median_in_plane_mm": statistics.median(r["in_plane_mm"] for r in rows),
            "median_depth_mm": statistics.median(r["depth_mm"] for r in rows),
            "accepted": sum(r["outcome"] == "converged" for r in rows),
            "truth_among_rivals": sum(r["truth_among_rivals"] for r in rows),
            "accepted_over_2_mm_in_plane": sum(r["outcome"] == "converged" and r["in_plane_mm"] > NEAR_MM for r in rows),
            "accepted_over_10_mm": sum(r["outcome"] == "converged" and r["mtre_mm"] > 10 for r in rows),
            "median_seconds": statistics.median(r["seconds"] for r in rows),
        }
    if arguments.json:
        print(json.dumps({"summary": summary, "records": records}))
        return
    names = list(next(iter(summary.values())))
    print("\n| | " + " | ".join(summary) + " |\n|---|" + "--:|" * len(summary))
    for name in names:
        print(f"| {name} | " + " | ".join(f"{s[name]:.2f}" for s in summary.values()) + " |")


if __name__ == "__main__":
    main()
