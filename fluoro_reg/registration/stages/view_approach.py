"""From the views of a coarse grid towards an X-ray: few steps of many views, then more steps of the best.

Between two rounds, views are dropped by what they score. The first one takes fewer pixels, because Levenberg-Marquardt then
reaches further.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.scales import ImageScales
from fluoro_reg.registration.stages.solver import image_evidence
from fluoro_reg.similarity import GradientNCC


@dataclass(frozen=True, slots=True)
class Round:
    """Views with at least `minimum` of the best evidence, `keep` at most, take a number of steps."""

    keep: int
    minimum: float
    iterations: int


ROUNDS = (Round(96, 0.3, 8), Round(32, 0.5, 10))


def approach(
    scales: ImageScales,
    object_px: tuple[int, int],
    metric: PoseMetric,
    poses: RigidTransform,
    evidence: Float[Tensor, "n"],
) -> tuple[RigidTransform, Float[Tensor, "kept"]]:
    """Return the views that remain after both rounds, nearer to the X-ray, and the evidence for them.

    `object_px` are the pixels across the CT's projection in each of them. All evidence is that of the last.
    """
    finest_px = object_px[-1]
    pixel_mm = scales.pixel_mm(scales.from_afar(finest_px).intrinsics)
    for one, px in zip(ROUNDS, object_px, strict=True):
        order = evidence.argsort(descending=True)
        order = order[evidence[order] >= one.minimum * evidence[order[0]]]
        poses = poses[torch.tensor(metric.distinct(poses, order, pixel_mm, one.keep))]
        poses = _refined(scales, px, poses, one.iterations)
        evidence = _evidence(scales, finest_px, poses)
    return poses, evidence


def _refined(scales: ImageScales, object_px: int, poses: RigidTransform, iterations: int) -> RigidTransform:
    objective = PoseObjective(scales.from_afar(object_px), scales.model, GradientNCC())
    at, _, _ = LevenbergMarquardt(iterations=iterations).minimise(objective, objective.evaluate(poses))
    return at.poses


def _evidence(scales: ImageScales, object_px: int, poses: RigidTransform) -> Float[Tensor, "n"]:
    objective = PoseObjective(scales.from_afar(object_px), scales.model, GradientNCC())
    at = objective.images(poses)
    return image_evidence(at.moving, objective.scale.fixed, objective.weight(at))
