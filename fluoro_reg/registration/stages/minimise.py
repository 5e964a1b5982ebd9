"""Minimises similarities: those that are values, and learned ones, which are values or have residuals."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned import ImageProblem, Side
from fluoro_reg.optimisers import CMAES, AbstractOptimiser, Adam, AutogradProblem, GradientDescent, LevenbergMarquardt
from fluoro_reg.optimisers.problem import Minima, ValueProblem

Minimised = tuple[RigidTransform, Float[Tensor, "batch"], Bool[Tensor, "batch"]]  # poses, their values, whether each converged


def minimise_values(optimiser: AbstractOptimiser[Any], values: ValueProblem, poses: RigidTransform, seed: int) -> Minima:
    """Minimise with the seed of a registration, and with gradients for the optimisers that need them."""
    if isinstance(optimiser, CMAES):
        optimiser = replace(optimiser, seed=optimiser.seed + seed)
    problem: Any = AutogradProblem(values) if isinstance(optimiser, (Adam, GradientDescent)) else values
    return optimiser.minimise(problem, poses)


def minimise_learned(
    optimiser: LevenbergMarquardt | AbstractOptimiser[Any], similar: ImageProblem, poses: RigidTransform, seed: int
) -> Minimised:
    """Minimise a learned similarity from poses on either side of the patient. The results are ordered by side.

    A prior is ignored, because its weight is relative to a number of pixels.
    """
    parts = []
    with torch.no_grad():
        for side in similar.sides(poses):
            found, values, converged = _minimise_side(optimiser, side, similar.pivot, seed)
            parts.append((similar.from_side(side, found), values, converged))
    values, converged = (torch.cat([part[k] for part in parts]) for k in (1, 2))
    return RigidTransform.cat([part[0] for part in parts]), values, converged


def _minimise_side(
    optimiser: LevenbergMarquardt | AbstractOptimiser[Any], side: Side, pivot: Float[Tensor, "3"], seed: int
) -> Minimised:
    """The same for the poses of one side, in that side's frame."""
    if isinstance(optimiser, LevenbergMarquardt):
        at, here, converged = optimiser.minimise(side.problem, side.problem.evaluate(side.poses))
        return at.poses, here.cost, converged
    minima = minimise_values(optimiser, side.problem, side.poses, seed)
    return retract(side.poses, minima.twists, pivot), minima.values, minima.converged
