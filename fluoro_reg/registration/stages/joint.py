"""One pose for several X-rays of known relative geometry: of a biplane system, or of a tracked C-arm.

A single view determines depth worst, and another view from the side determines it best. A twist of the patient is the same
for every camera, so the normal equations of the views add up, each weighted by the pixels that it compares.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.optimisers import LevenbergMarquardt, NormalEquations
from fluoro_reg.optimisers.batch import take
from fluoro_reg.registration.stages.objective import (
    Evaluation,
    PoseObjective,
    WeightedNormalEquations,
    effective_pixels,
    image_evidence,
)
from fluoro_reg.registration.stages.optimum import are_within, information_at
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.refined import Refined
from fluoro_reg.registration.stages.solver import ASSESSED_PX, HOPELESS, Solver

COARSE_PX = (32, 64)  # across the projected CT: what a view found alone may be centimetres off in depth
FINE_PX = 256  # the error in depth that remains is the in-plane error of the views
KEPT = 3  # hypotheses that remain after each scale
FURTHER_STEPS = 7  # odd


@dataclass(frozen=True, slots=True)
class JointEvaluation:
    """`reference_from_patient`, and its evaluation in every view."""

    poses: RigidTransform
    views: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class JointNormalEquations(NormalEquations):
    """Sums over the views, each weighted by its `fraction` of the compared pixels."""

    fraction: Float[Tensor, "batch views"]
    views: tuple[WeightedNormalEquations, ...]


@dataclass(frozen=True, slots=True)
class JointObjective:
    """A `LeastSquaresProblem` of `fluoro_reg.optimisers`: the sum of those of the views."""

    views: tuple[PoseObjective, ...]
    cameras_from_reference: tuple[RigidTransform, ...]

    def evaluate(self, poses: RigidTransform) -> JointEvaluation:
        """Renders the CT in every view."""
        pairs = zip(self.views, self.cameras_from_reference, strict=True)
        return JointEvaluation(poses, tuple(view.evaluate(camera @ poses) for view, camera in pairs))

    def retract(self, at: JointEvaluation, step: Float[Tensor, "batch 6"]) -> JointEvaluation:
        return self.evaluate(retract(at.poses, step, self.views[0].model.pivot))

    def linearise(self, at: JointEvaluation) -> JointNormalEquations:
        parts = tuple(view.linearise(seen) for view, seen in zip(self.views, at.views, strict=True))
        pixels = torch.stack([effective_pixels(part.weight) for part in parts], dim=-1)
        fraction = pixels / pixels.sum(-1, keepdim=True)
        return JointNormalEquations(
            cost=torch.einsum("bv,vb->b", fraction, torch.stack([part.cost for part in parts])),
            gradient=torch.einsum("bv,vbi->bi", fraction, torch.stack([part.gradient for part in parts])),
            hessian=torch.einsum("bv,vbij->bij", fraction, torch.stack([part.hessian for part in parts])),
            fraction=fraction,
            views=parts,
        )

    def cost(self, trial: JointEvaluation, reference: JointNormalEquations) -> Float[Tensor, "batch"]:
        seen = zip(self.views, trial.views, reference.views, strict=True)
        costs = [view.cost(evaluation, here) for view, evaluation, here in seen]
        return (reference.fraction * torch.stack(costs, dim=-1)).sum(-1)


@dataclass(frozen=True, slots=True)
class JointRefined:
    """Distinct poses `reference_from_patient`, refined in all views, the best first, and their evaluation in each view."""

    poses: RigidTransform
    views: tuple[Refined, ...]


@dataclass(slots=True)
class JointSolver:
    """Levenberg-Marquardt on all views at once; `n_renders` counts views."""

    solvers: tuple[Solver, ...]
    cameras_from_reference: tuple[RigidTransform, ...]
    n_renders: int = 0

    def run(self, hypotheses: RigidTransform, metric: PoseMetric, distinct_mm: float) -> JointRefined:
        """Refine `reference_from_patient` from coarse to fine; evaluate at the scale of the assessment."""
        for object_px in (*COARSE_PX, ASSESSED_PX, FINE_PX):
            objective = self._objective(object_px, hypotheses)
            at, equations, converged = LevenbergMarquardt().minimise(objective, objective.evaluate(hypotheses))
            self._count(objective)
            evidence = _evidence(objective, at, equations)
            rows = torch.tensor(_distinct(at, evidence.argsort(descending=True), metric, distinct_mm)[:KEPT])
            rows = rows[evidence[rows] >= HOPELESS * evidence[rows[0]]]
            hypotheses, converged = at.poses[rows], converged[rows]
        if not bool(converged[0]):
            converged[:1] = _is_at_optimum(objective, take(at, rows[:1]), take(equations, rows[:1]))
        objective = self._objective(ASSESSED_PX, hypotheses)
        at = objective.evaluate(hypotheses)
        parts = zip(objective.views, at.views, objective.linearise(at).views, strict=True)
        self._count(objective)
        return JointRefined(hypotheses, tuple(Refined(*part, converged) for part in parts))

    def _objective(self, object_px: int, poses: RigidTransform) -> JointObjective:
        cameras = self.cameras_from_reference
        views = [solver.objective(object_px, camera @ poses) for solver, camera in zip(self.solvers, cameras, strict=True)]
        return JointObjective(tuple(views), cameras)

    def _count(self, objective: JointObjective) -> None:
        self.n_renders += sum(view.n_renders for view in objective.views)


def _is_at_optimum(objective: JointObjective, at: JointEvaluation, here: JointNormalEquations) -> Bool[Tensor, "one"]:
    """Whether further steps stay within the covariance of the pose.

    The pixels that count move with the pose: where they alternate, the optimiser goes to and fro by hundredths of a millimetre
    and meets no tolerance. It takes an odd number of steps here, so that this is seen.
    """
    ended, _, _ = LevenbergMarquardt(iterations=FURTHER_STEPS).minimise(objective, at)
    information = torch.stack([information_at(*view) for view in zip(at.views, here.views, strict=True)]).sum(0)
    return torch.isfinite(here.cost) & are_within(information, at.poses, ended.poses, objective.views[0].model.pivot)


def _evidence(objective: JointObjective, at: JointEvaluation, here: JointNormalEquations) -> Float[Tensor, "batch"]:
    """The evidence of all views together."""
    views = zip(objective.views, at.views, here.views, strict=True)
    parts = [image_evidence(seen.moving, view.scale.fixed, equations.weight) for view, seen, equations in views]
    return torch.stack(parts).sum(0)


def _distinct(at: JointEvaluation, order: Int[Tensor, "batch"], metric: PoseMetric, apart_mm: float) -> list[int]:
    """The rows of `order` that are, in at least one view, further than `apart_mm` from every row chosen before."""
    chosen: list[int] = []
    for row in order.tolist():
        apart = [max(float(metric.distances(v.poses[row : row + 1], v.poses[other])[0]) for v in at.views) for other in chosen]
        if all(distance > apart_mm for distance in apart):
            chosen.append(row)
    return chosen
