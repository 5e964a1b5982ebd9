"""One pose for several X-rays whose cameras' relative positions are known: a biplane system, or a tracked C-arm between shots.

What one view sees worst, depth, another one from the side sees best. A twist of the patient is the same in every camera, so the
views' normal equations add up, each by the pixels it compares; nothing else changes. Every view must pass the gates at the
common pose, and another pose is a rival unless one view tells the two apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.optimisers import LevenbergMarquardt, NormalEquations
from fluoro_reg.optimisers.batch import take
from fluoro_reg.registration.assessment.covariance import covariance_of_information
from fluoro_reg.registration.assessment.evidence import Assessment, assess, information_of, pose_uncertainty, similarities
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Hypothesis, Outcome
from fluoro_reg.registration.stages.objective import Evaluation, PoseObjective, WeightedNormalEquations, effective_pixels
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.solver import ASSESSED_PX, Refined

FINE_PX = 256  # across the CT's projection: what is left of the error in depth is the views' error in the plane


@dataclass(frozen=True, slots=True)
class JointEvaluation:
    """`reference_from_patient`, and what every view makes of it."""

    poses: RigidTransform
    views: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class JointNormalEquations(NormalEquations):
    """Sums over the views, each weighted by its `fraction` of the compared pixels."""

    fraction: Float[Tensor, "batch views"]
    views: tuple[WeightedNormalEquations, ...]


@dataclass(frozen=True, slots=True)
class JointObjective:
    """A `LeastSquaresProblem` of `fluoro_reg.optimisers` over the views' own."""

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
    """Distinct poses `reference_from_patient` that suit all views, the best first; and what each view makes of them."""

    poses: RigidTransform
    views: tuple[Refined, ...]


def refine_together(
    objectives: Callable[[int, RigidTransform], JointObjective],
    starts: RigidTransform,
    metric: PoseMetric,
    distinct_mm: float,
) -> JointRefined:
    """Levenberg-Marquardt on all views at once, at the scale where poses are judged and then at a finer one; judged at the
    former. `objectives` makes the objective of a scale (pixels across the CT) about given poses.
    """
    for object_px in (ASSESSED_PX, FINE_PX):
        objective = objectives(object_px, starts)
        at, here, converged = LevenbergMarquardt().minimise(objective, objective.evaluate(starts))
        rows = torch.tensor(_distinct(at, here.cost.argsort(), metric, distinct_mm))
        starts, converged = at.poses[rows], converged[rows]
    judging = objectives(ASSESSED_PX, starts)
    at = judging.evaluate(starts)
    seen = zip(judging.views, at.views, judging.linearise(at).views, strict=True)
    return JointRefined(starts, tuple(Refined(*view, converged) for view in seen))


def assess_jointly(joint: JointRefined, metric: PoseMetric, gate: GateOptions) -> tuple[Assessment, int]:
    """The verdict on the first pose, with covariance and alternatives of `reference_from_patient`; and whose it is: that of the
    first view that refuses, else of the first.

    Every view judges the first pose alone. Every other pose, distinct in some view as it is, is a rival unless one view tells
    it apart.
    """
    pivot = joint.views[0].objective.model.pivot
    twist = covariance_of_information(torch.stack([information_of(view) for view in joint.views]).sum(0))
    alone = [_first(view) for view in joint.views]
    verdicts = [assess(view, metric, gate, pose_uncertainty(twist, view.poses[0], pivot)) for view in alone]
    scores = torch.stack([similarities(view) for view in joint.views])  # views, poses
    lead = (scores[:, :1] - scores[:, 1:]).amax(0)
    alternatives = tuple(Hypothesis(joint.poses[k + 1], float(scores[:, k + 1].min())) for k in range(lead.numel()))
    number = next((n for n, verdict in enumerate(verdicts) if verdict.outcome is not Outcome.CONVERGED), 0)
    verdict = replace(
        verdicts[number], covariance=pose_uncertainty(twist, joint.poses[0], pivot).covariance, alternatives=alternatives
    )
    if verdict.outcome is Outcome.CONVERGED and not bool((lead >= gate.minimum_margin).all()):
        reason = f"another pose explains every view as well: similarity {float(scores[number, 1:].max()):.3f}"
        verdict = replace(verdict, outcome=Outcome.AMBIGUOUS, reason=reason)
    return verdict, number


def _distinct(at: JointEvaluation, order: Int[Tensor, "batch"], metric: PoseMetric, apart_mm: float) -> list[int]:
    """Those of `order` that lie further than `apart_mm`, in some view, from every one chosen before."""
    chosen: list[int] = []
    for row in order.tolist():
        apart = [max(float(metric.distances(v.poses[row : row + 1], v.poses[other])[0]) for v in at.views) for other in chosen]
        if all(distance > apart_mm for distance in apart):
            chosen.append(row)
    return chosen


def _first(refined: Refined) -> Refined:
    first = torch.tensor([0])
    return Refined(refined.objective, take(refined.at, first), take(refined.linearised, first), refined.converged[:1])
