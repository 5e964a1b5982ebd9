"""Metal instruments that are not in the CT: K-wires and screws as cylinders in patient coordinates, with exact path lengths.

Most intra-operative images show an instrument, and its edges are the sharpest in the image. A registration must not follow it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform


@dataclass(frozen=True, slots=True)
class Cylinder:
    """A straight cylinder with flat ends, in patient mm; `material` is one of those of `spectrum`."""

    start: Float[Tensor, "3"]
    end: Float[Tensor, "3"]
    radius: float
    material: str


def k_wire(tip: Float[Tensor, "3"], generator: torch.Generator) -> list[Cylinder]:
    """Return a steel wire, 2 to 3 mm thick, that enters from outside the field and ends at `tip`."""
    radius = 1.0 + 0.5 * torch.rand(1, generator=generator).item()
    return [Cylinder(tip + 240.0 * _direction(generator), tip, radius, "steel")]


def screw(tip: Float[Tensor, "3"], generator: torch.Generator) -> list[Cylinder]:
    """Return the shaft, 40 to 80 mm long, and the head of a titanium screw."""
    direction = _direction(generator)
    length = 40.0 + 40.0 * torch.rand(1, generator=generator).item()
    neck = tip + length * direction
    return [Cylinder(tip, neck, 3.2, "titanium"), Cylinder(neck, neck + 4.5 * direction, 5.5, "titanium")]


def metal_thickness_mm(
    tools: tuple[Cylinder, ...], camera_from_patient: RigidTransform, intrinsics: CameraIntrinsics
) -> dict[str, Float[np.ndarray, "height width"]]:
    """Return the path length through each metal along the ray of every pixel, mm."""
    x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
    rays = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.ones((len(y), len(x)))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    total: dict[str, np.ndarray] = {}
    for tool in tools:
        ends = camera_from_patient.apply(torch.stack([tool.start, tool.end]).double()).numpy()
        total[tool.material] = total.get(tool.material, 0.0) + cylinder_path_length_mm(rays, ends[0], ends[1], tool.radius)
    return total


def cylinder_path_length_mm(
    rays: Float[np.ndarray, "height width 3"], start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"], radius: float
) -> Float[np.ndarray, "height width"]:
    """Return the lengths of rays from the origin inside a finite cylinder, mm.

    The intersection with the wall solves a quadratic equation; the flat ends bound a slab.

    Args:
        rays: Unit directions of the rays.
        start: Centre of one end, mm.
        end: Centre of the other end, mm.
        radius: Radius of the cylinder, mm.
    """
    length = float(np.linalg.norm(end - start))
    axis = (end - start) / length
    along = rays @ axis
    across, offset = rays - along[..., None] * axis, -start + (start @ axis) * axis
    a = np.maximum((across**2).sum(-1), 1e-12)
    b = across @ offset
    root = np.sqrt(np.maximum(b * b - a * (offset @ offset - radius * radius), 0))
    nonzero_along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    ends = np.stack([(start @ axis) / nonzero_along, (start @ axis + length) / nonzero_along])
    near = np.maximum(np.maximum((-b - root) / a, ends.min(0)), 0)
    return np.maximum(np.minimum((-b + root) / a, ends.max(0)) - near, 0) * (root > 0)


def _direction(generator: torch.Generator) -> Float[Tensor, "3"]:
    """Return a random unit vector from a tip to the front or to a side of the patient, where a surgeon stands."""
    azimuth = math.pi * torch.rand(1, generator=generator).item()
    height = 0.9 * (2 * torch.rand(1, generator=generator).item() - 1)
    flat = math.sqrt(1 - height * height)
    return torch.tensor([flat * math.cos(azimuth), -flat * math.sin(azimuth), height], dtype=torch.float64)
