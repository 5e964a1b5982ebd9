"""From the views of a coarse grid towards an X-ray: few steps of many views, then more steps of the best.

Between two rounds, views are dropped by what they score: after few steps it tells far more than on the grid. All rounds but the
last take fewer pixels, because Levenberg-Marquardt then reaches further.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration.stages.objective import PoseObjective, image_evidence
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.scales import ImageScales
from fluoro_reg.similarity import GradientNCC


@dataclass(frozen=True, slots=True)
class Compared:
    """Views that were compared with the X-ray, `camera_from_patient`, and the evidence for each."""

    poses: RigidTransform
    evidence: Float[Tensor, "n"]


@dataclass(frozen=True, slots=True)
class Round:
    """Views with at least `minimum` of the best evidence, `keep` at most, take a number of steps."""

    keep: int
    minimum: float
    iterations: int


LOOKED_AT = 20  # times as many views as are kept, in which those that are distinct are looked for
ROUNDS = (Round(192, 0.2, 4), Round(64, 0.4, 8), Round(24, 0.5, 12))


def approach(scales: ImageScales, object_px: tuple[int, int], metric: PoseMetric, begins: Sequence[Compared]) -> Compared:
    """Return the views that remain after all rounds, nearer to the X-ray.

    Args:
        scales: The scales of the X-ray.
        object_px: The pixels across the CT's projection, before the last round and in it. All evidence is that of the last.
        metric: Tells views apart.
        begins: The first round begins with the best views of each of these comparisons.
    """
    coarser_px, finer_px = object_px
    pixel_mm = scales.pixel_mm(scales.from_afar(finer_px).intrinsics)
    for one in ROUNDS:
        poses = RigidTransform.cat([_best(begin, one, metric, pixel_mm) for begin in begins])
        refined = _refined(scales, finer_px if one is ROUNDS[-1] else coarser_px, poses, one.iterations)
        begins = [Compared(refined, _evidence(scales, finer_px, refined))]
    return begins[0]


def _best(compared: Compared, one: Round, metric: PoseMetric, apart_mm: float) -> RigidTransform:
    order = compared.evidence.argsort(descending=True)[: LOOKED_AT * one.keep]
    order = order[compared.evidence[order] >= one.minimum * compared.evidence[order[0]]]
    return compared.poses[torch.tensor(metric.distinct(compared.poses, order, apart_mm, one.keep))]


def _refined(scales: ImageScales, object_px: int, poses: RigidTransform, iterations: int) -> RigidTransform:
    objective = PoseObjective(scales.from_afar(object_px), scales.model, GradientNCC())
    at, _, _ = LevenbergMarquardt(iterations=iterations).minimise(objective, objective.evaluate(poses))
    return at.poses


def _evidence(scales: ImageScales, object_px: int, poses: RigidTransform) -> Float[Tensor, "n"]:
    objective = PoseObjective(scales.from_afar(object_px), scales.model, GradientNCC())
    at = objective.images(poses)
    return image_evidence(at.moving, objective.scale.fixed, objective.weight(at)).nan_to_num(0.0)  # NaN would sort first
