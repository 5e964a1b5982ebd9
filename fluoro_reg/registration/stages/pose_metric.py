"""Distances between poses, and the selection of distinct ones.

The distance is the mean displacement of points of the CT in the camera, with depth counted at a fifth. A single X-ray
determines depth so poorly that two poses that differ only in depth are the same answer.
"""

from dataclasses import dataclass

import numpy as np
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
        return (moved * self._axes).norm(dim=-1).mean(-1)

    def distinct(self, poses: RigidTransform, order: Int[Tensor, "batch"], apart_mm: float, keep: int) -> list[int]:
        """The first `keep` rows of `order` that are further than `apart_mm` from every row chosen before."""
        points = (poses[order].apply(self.points_patient) * self._axes).numpy()
        chosen, left = list[int](), np.arange(len(order))
        while len(left) and len(chosen) < keep:
            first, left = left[0], left[1:]
            chosen.append(int(order[first]))
            left = left[np.linalg.norm(points[left] - points[first], axis=-1).mean(-1) > apart_mm]
        return chosen

    @property
    def _axes(self) -> Float[Tensor, "3"]:
        return torch.tensor([1.0, 1.0, DEPTH_WEIGHT], dtype=self.points_patient.dtype)


def reference_points(corners_patient: Float[Tensor, "8 3"], maximum_mm: float = 100.0) -> Float[Tensor, "8 3"]:
    """The corners of the CT's box moved half-way to its centre, at most `maximum_mm` from it along each axis."""
    centre = corners_patient.mean(0)
    return centre + ((corners_patient - centre) / 2).clamp(-maximum_mm, maximum_mm)
