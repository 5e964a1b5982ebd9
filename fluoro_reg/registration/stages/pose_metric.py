"""Several poses at once: how far apart they are, and which are worth going on with.

Distance is the mean displacement of points of the CT in the camera, with depth counted at a fifth: a single X-ray sees depth so
badly that two poses which differ in depth alone are the same answer with another uncertainty.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform

DEPTH_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class PoseMetric:
    """Distances between poses over reference points of the CT (patient mm)."""

    points_patient: Float[Tensor, "n 3"]

    def distances(self, poses: RigidTransform, other: RigidTransform) -> Float[Tensor, "batch"]:
        """Mean displacement of the points, mm, depth at a fifth; `other` is one pose."""
        moved = poses.apply(self.points_patient) - other.apply(self.points_patient)
        return (moved * torch.tensor([1.0, 1.0, DEPTH_WEIGHT], dtype=moved.dtype)).norm(dim=-1).mean(-1)

    def distinct(self, poses: RigidTransform, order: Int[Tensor, "batch"], apart_mm: float, keep: int) -> list[int]:
        """The first `keep` of `order` that lie further than `apart_mm` from every one chosen before."""
        chosen: list[int] = []
        for row in order.tolist():
            near = [float(self.distances(poses[row : row + 1], poses[other])[0]) for other in chosen]
            if all(distance > apart_mm for distance in near):
                chosen.append(row)
            if len(chosen) == keep:
                break
        return chosen


def reference_points(corners_patient: Float[Tensor, "8 3"], largest_mm: float = 100.0) -> Float[Tensor, "8 3"]:
    """The corners of the CT's box drawn in half-way to its centre, at most `largest_mm` from it along each axis."""
    centre = corners_patient.mean(0)
    return centre + ((corners_patient - centre) / 2).clamp(-largest_mm, largest_mm)
