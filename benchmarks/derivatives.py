"""Correctness of all backends' derivatives, compared with the float64 reference and finite differences.

    python benchmarks/derivatives.py [--ct CT] [--size 48] [--json]

Errors are relative to the maximum of the image, and of each of the six columns of the Jacobian; the table shows the worst
column. The image is piecewise smooth: a ray with a sample on a voxel face has two derivatives, and rounding decides which one
float32 returns. Maximum errors of derivatives are therefore over rays whose samples stay 0.2 um away from all faces (`smooth`
is their fraction), and rms errors over all rays. Finite differences are central differences of the float64 reference. Views
look along each axis of the grid, from the opposite side, obliquely, and from both sides of the pose at which the march axis
changes; `jump` is the size of that discontinuity.
"""

import argparse
import json
import os
import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, so3
from fluoro_reg.rendering import RENDERERS, TorchRenderer, project, project_with_jacobian
from fluoro_reg.rendering.rays import march_axes, rays_of_views

DEPTH_MM, SOURCE_TO_DETECTOR_MM, DETECTOR_MM = 700.0, 1000.0, 300.0
STEP = torch.tensor([2e-4] * 3 + [2e-6] * 3, dtype=torch.float64)  # mm, rad: 0.2 um at 100 mm from the pivot
KINK_TOLERANCE = 2e-4  # of a column's maximum, between the derivatives on the two sides of a face
Row = dict[str, str | float]


@dataclass(frozen=True)
class View:
    """A named pose."""

    name: str
    camera_from_patient: RigidTransform


def synthetic_volume() -> CTVolume:
    """Return bone-like blobs in a body, on an anisotropic, oblique and sheared grid, with air around the body."""
    generator = torch.Generator().manual_seed(0)
    k, j, i = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (72, 96, 88)), indexing="ij")
    attenuation = 0.02 * ((i / 0.85) ** 2 + (j / 0.7) ** 2 + (k / 0.95) ** 2 < 1)
    for _ in range(14):
        centre, radii = 1.1 * torch.rand(3, generator=generator) - 0.55, 0.08 + 0.2 * torch.rand(3, generator=generator)
        squared = sum(((x - c) / r) ** 2 for x, c, r in zip((i, j, k), centre, radii, strict=True))
        attenuation = attenuation + 0.03 * torch.exp(-2 * squared)
    attenuation = torch.where(attenuation > 0.01, attenuation * (1 + 0.1 * torch.rand(72, 96, 88, generator=generator)), 0)
    patient_from_voxel = torch.eye(4, dtype=torch.float64)
    patient_from_voxel[:3, :3] = rotation(0.2, -0.1, 0.3) @ torch.tensor(
        [[2.4, 0.0, 0.0], [0.0, 2.2, 0.9], [0.0, 0.0, 3.0]], dtype=torch.float64
    )
    return CTVolume(attenuation.float(), patient_from_voxel)


def rotation(x: float, y: float, z: float) -> Tensor:
    return so3.exp(torch.tensor([x, y, z], dtype=torch.float64))


def pose_with_axes(volume: CTVolume, camera_axes: Tensor) -> RigidTransform:
    """Return the pose with these camera axes (columns, in the patient), with the volume's centre near the optical axis."""
    target = torch.tensor([3.0, -5.0, DEPTH_MM], dtype=torch.float64)
    return RigidTransform(camera_axes.T, target - camera_axes.T @ volume.centre_patient)


def views(volume: CTVolume, camera: CameraIntrinsics) -> list[View]:
    directions = volume.patient_from_voxel[:3, :3]
    axes = []
    for axis, name in enumerate("ijk"):
        z = torch.nn.functional.normalize(directions[:, axis], dim=0)
        x = torch.nn.functional.normalize(torch.linalg.cross(directions[:, (axis + 1) % 3], z), dim=0)
        frame = torch.stack([x, torch.linalg.cross(z, x), z], dim=1) @ rotation(0.04, -0.07, 0.3)
        axes.append(View(f"along {name}", pose_with_axes(volume, frame)))
    first = axes[0].camera_from_patient.rotation.T
    oblique = [View("opposite", pose_with_axes(volume, rotation(0.1, 3.0, 0.1) @ first))]
    oblique.append(View("oblique", pose_with_axes(volume, rotation(0.5, 0.6, -0.4) @ first)))
    return axes + oblique + views_around_axis_change(volume, camera, first)


def views_around_axis_change(volume: CTVolume, camera: CameraIntrinsics, initial_rotation: Tensor) -> list[View]:
    """Return two views 20 microradians apart, on either side of a change of the march axis found by bisection."""

    def at(angle: float) -> tuple[RigidTransform, int]:
        pose = pose_with_axes(volume, rotation(0.0, 0.0, angle) @ rotation(0.3, 0.0, 0.0) @ initial_rotation)
        return pose, march_axes(rays_of_views(volume, pose, camera), volume.shape_ijk)[0]

    low, high = 0.0, next(step / 10 for step in range(1, 32) if at(step / 10)[1] != at(0.0)[1])
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] == at(low)[1] else (low, middle)
    return [View("before a change of axis", at(low - 1e-5)[0]), View("after it", at(high + 1e-5)[0])]


def relative(difference: Tensor, expected: Tensor) -> Tensor:
    """Return the difference per channel, relative to the channel's maximum."""
    return difference.abs() / expected.flatten(0, -2).abs().amax(0)


def compare(volume: CTVolume, view: View, camera: CameraIntrinsics) -> list[Row]:
    """Return one row per backend."""
    pivot, pose = volume.centre_patient, view.camera_from_patient
    reference = TorchRenderer(volume, dtype=torch.float64)
    image, jacobian = project_with_jacobian(reference, pose, camera, pivot)
    differences, smooth = finite_differences(reference, pose, camera, jacobian)
    axis = "ijk"[march_axes(rays_of_views(volume, pose, camera), volume.shape_ijk)[0]]
    rows: list[Row] = []
    has_triton = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
    usable = {n: b for n, b in RENDERERS.items() if "cpu" in b.capabilities.devices or has_triton}
    for name, backend in {"float64": None, **usable}.items():
        renderer = reference if backend is None else backend(volume)
        its_image, its_jacobian = (x.cpu().double() for x in project_with_jacobian(renderer, pose, camera, pivot))
        row: Row = {"view": view.name, "axis": axis, "backend": name}
        if backend is not None:
            image_error, error = relative(its_image - image, image[..., None]), relative(its_jacobian - jacobian, jacobian)
            row |= {"image max": float(image_error.max()), "Jacobian max": float(error[smooth].max())}
            row |= {"Jacobian rms": float(error.square().mean(dim=(0, 1)).sqrt().max())}
        to_differences = relative(its_jacobian - differences, jacobian)[smooth]
        row |= {"differences max": float(to_differences.max()), "smooth": float(smooth.double().mean())}
        rows.append(row)
    return rows


def finite_differences(
    reference: TorchRenderer, pose: RigidTransform, camera: CameraIntrinsics, jacobian: Tensor
) -> tuple[Tensor, Tensor]:
    """Return central differences with respect to the six parameters, and the pixels where both one-sided ones agree."""
    pivot, image = reference.volume.centre_patient, project(reference, pose, camera)
    columns, smooth = [], torch.ones_like(image, dtype=torch.bool)
    for parameter, step in enumerate(STEP):
        twist = torch.zeros(6, dtype=torch.float64)
        twist[parameter] = step
        plus, minus = (project(reference, retract(pose, sign * twist, pivot), camera) for sign in (1, -1))
        forward, backward = (plus - image) / step, (image - minus) / step
        columns.append((forward + backward) / 2)
        smooth &= (forward - backward).abs() < KINK_TOLERANCE * jacobian[..., parameter].abs().max()
    return torch.stack(columns, dim=-1), smooth


def jump(volume: CTVolume, pair: list[View], camera: CameraIntrinsics) -> Row:
    """Return the rms difference of image and Jacobian on the two sides of a change of the march axis."""
    reference = TorchRenderer(volume, dtype=torch.float64)
    before, after = (project_with_jacobian(reference, v.camera_from_patient, camera, volume.centre_patient) for v in pair)
    image = relative(after[0] - before[0], before[0][..., None])
    jacobian = relative(after[1] - before[1], before[1])
    rms = [float(x.square().mean(dim=(0, 1)).sqrt().max()) for x in (image[..., None], jacobian)]
    return {"view": "jump at the change", "image rms": rms[0], "Jacobian rms": rms[1]}


def table(rows: list[Row]) -> str:
    columns = ["view", "axis", "backend", "image max", "Jacobian max", "Jacobian rms", "differences max", "smooth"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * 3 + "--:|" * 5]
    for row in rows:
        values = [row.get(column, "") for column in columns]
        texts = [f"{v:.1e}" if isinstance(v, float) and v < 0.1 else f"{v:.3f}" if isinstance(v, float) else v for v in values]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", help="a CT (default: synthetic, on an oblique, anisotropic and sheared grid)")
    parser.add_argument("--size", type=int, default=48, help="pixels per side (default 48)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    try:
        volume = read_ct(arguments.ct) if arguments.ct else synthetic_volume()
    except InputError as error:
        sys.exit(f"error: {error}")
    focal = SOURCE_TO_DETECTOR_MM / DETECTOR_MM * arguments.size
    centre = (arguments.size - 1) / 2
    camera = CameraIntrinsics(arguments.size, arguments.size, focal, focal, centre, centre, SOURCE_TO_DETECTOR_MM)
    all_views = views(volume, camera)
    rows = [row for view in all_views for row in compare(volume, view, camera)]
    change = jump(volume, all_views[-2:], camera)
    if arguments.json:
        print(json.dumps({"rows": rows, "jump": change}))
    else:
        print(table(rows))
        print(f"\njump at the change of axis, rms: image {change['image rms']:.1e}, Jacobian {change['Jacobian rms']:.1e}")


if __name__ == "__main__":
    main()
