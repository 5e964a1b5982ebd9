"""Whether poses are where Levenberg-Marquardt on gradient NCC ends, within the covariance that is reported for them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration.assessment.covariance import twist_information
from fluoro_reg.registration.stages.objective import Evaluation, PoseObjective, WeightedNormalEquations, effective_pixels

MAXIMUM_DEVIATION_SD = 3.0  # from a pose to the optimum of gradient NCC, in reported standard deviations


def is_at_optimum(objective: PoseObjective, at: Evaluation, here: WeightedNormalEquations) -> Bool[Tensor, "batch"]:
    """Whether Levenberg-Marquardt, started at each pose, ends within the covariance that would be reported for the pose.

    The optimum of another similarity, of a restraint or of a loose tolerance may be further away: the covariance would then be
    wrong. A single Gauss-Newton step does not show this, because far from an optimum it is too short.
    """
    ended, _, _ = LevenbergMarquardt().minimise(objective, at)
    near = are_within(information_at(at, here), at.poses, ended.poses, objective.model.pivot)
    return torch.isfinite(here.cost) & near


def information_at(at: Evaluation, here: WeightedNormalEquations) -> Float[Tensor, "batch 6 6"]:
    """The inverse covariance of the twist that would be reported for each pose."""
    rows = zip(here.hessian, here.cost.tolist(), effective_pixels(here.weight).tolist(), at.poses.rotation, strict=True)
    return torch.stack([twist_information(*row) for row in rows])


def are_within(
    information: Float[Tensor, "batch 6 6"], poses: RigidTransform, ended: RigidTransform, pivot: Float[Tensor, "3"]
) -> Bool[Tensor, "batch"]:
    """Whether poses where an optimiser ended are within `MAXIMUM_DEVIATION_SD` of those where it began."""
    displacement = se3.local(poses, ended, pivot)
    distance = (displacement * (information @ displacement[..., None]).squeeze(-1)).sum(-1)
    return (distance >= 0) & (distance <= MAXIMUM_DEVIATION_SD**2)
