"""From starts to refined hypotheses: the search, then an optimiser scale by scale, fewer hypotheses each time.

Levenberg-Marquardt leaves behind what the gates ask for, residuals and a Hessian, at the scale and by the similarity of its
last stage. Where another optimiser ends, or a learned similarity, both are made there by gradient NCC at the scale for which
the gates' thresholds were measured. It has converged when it says so and gradient NCC agrees within the covariance to be
reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.learned import ImageProblem
from fluoro_reg.optimisers import CMAES, AbstractOptimiser, Adam, AutogradProblem, GradientDescent, LevenbergMarquardt
from fluoro_reg.optimisers.batch import take
from fluoro_reg.optimisers.problem import Minima, ValueProblem
from fluoro_reg.registration.assessment.covariance import twist_information
from fluoro_reg.registration.method import Learned, SearchOptions, StageOptions
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import (
    Evaluation,
    PoseObjective,
    PosePrior,
    WeightedNormalEquations,
    effective_pixels,
)
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.pose_values import PoseValues, moved
from fluoro_reg.registration.stages.scales import ImageScales
from fluoro_reg.registration.stages.search import search
from fluoro_reg.similarity import AbstractResidualSimilarity, AbstractSimilarity, GradientNCC

ASSESSED_PX = 128  # across the CT's projection, as in the last stage of the methods of Levenberg-Marquardt
MAXIMUM_DEVIATION_SD = 3.0  # from a pose to where Levenberg-Marquardt would lead, in reported standard deviations


@dataclass(frozen=True, slots=True)
class Refined:
    """Distinct hypotheses after a stage, best first, and whether each met the optimiser's tolerance."""

    objective: PoseObjective
    at: Evaluation
    linearised: WeightedNormalEquations
    converged: Bool[Tensor, "batch"]

    @property
    def poses(self) -> RigidTransform:
        return self.at.poses


@dataclass(frozen=True, slots=True)
class Found:
    """Distinct hypotheses after a stage without residuals, best first, and whether each met the optimiser's tolerance."""

    poses: RigidTransform
    converged: Bool[Tensor, "batch"]


@dataclass(slots=True)
class Solver:
    """The search and the stages over one image."""

    scales: ImageScales
    model: ObjectModel
    metric: PoseMetric
    prior: PosePrior | None
    distinct_mm: float  # hypotheses closer than this are one, so that every place kept is a possible rival
    seed: int = 0
    learned: Mapping[str, ImageProblem] = field(default_factory=dict)
    n_renders: int = 0

    def starts(self, start: RigidTransform, options: SearchOptions | None) -> RigidTransform:
        """The start, and with `options` the best places that the search finds besides it."""
        alone = RigidTransform.stack([start])
        if options is None or options.keep == 0:
            return alone
        scale = self.scales.scale(options.object_px, None, roughly=True)
        objective = PoseObjective(scale, self.model, GradientNCC())
        found = search(objective, start, options)
        self.n_renders += objective.n_renders
        pixel_mm = self.scales.pixel_mm(scale.intrinsics)
        order = found.correlation.argsort(descending=True)
        rows = self.metric.distinct(found.poses, order, pixel_mm, options.keep)
        return RigidTransform.cat([alone, found.poses[torch.tensor(rows)]])

    def objective(self, object_px: int, poses: RigidTransform) -> PoseObjective:
        """Gradient NCC at a scale, about some poses: at `ASSESSED_PX` it judges poses, whatever their method maximised."""
        return PoseObjective(self.scales.scale(object_px, poses), self.model, GradientNCC(), self.prior)

    def run(self, poses: RigidTransform, stages: tuple[StageOptions, ...]) -> Refined:
        """Every stage in turn; the last one's poses are judged."""
        for stage in stages[:-1]:
            poses = self._refined(poses, stage, roughly=True).poses
        refined = self._refined(poses, stages[-1], roughly=False)
        return refined if isinstance(refined, Refined) else self._judged(refined)

    def _refined(self, poses: RigidTransform, stage: StageOptions, roughly: bool) -> Refined | Found:
        if isinstance(stage.similarity, Learned):
            return self._by_learned(poses, stage, self.learned[stage.similarity.kind])
        if isinstance(stage.optimiser, LevenbergMarquardt):
            return self._by_residuals(poses, stage, stage.optimiser, roughly)
        return self._by_values(poses, stage, stage.optimiser, roughly)

    def _by_residuals(
        self, poses: RigidTransform, stage: StageOptions, optimiser: LevenbergMarquardt, roughly: bool
    ) -> Refined:
        similarity = cast(AbstractResidualSimilarity, stage.similarity)  # or the method would not have been read
        scale = self.scales.scale(stage.object_px, poses, roughly)
        objective = PoseObjective(scale, self.model, similarity, self.prior)
        at, linearised, converged = optimiser.minimise(objective, objective.evaluate(poses))
        self.n_renders += objective.n_renders
        rows = self._best(at.poses, linearised.cost, self.scales.pixel_mm(scale.intrinsics), stage.keep)
        return Refined(objective, take(at, rows), take(linearised, rows), converged[rows])

    def _by_values(self, poses: RigidTransform, stage: StageOptions, optimiser: AbstractOptimiser[Any], roughly: bool) -> Found:
        scale = self.scales.scale(stage.object_px, None, roughly)
        similarity = cast(AbstractSimilarity, stage.similarity)
        values = PoseValues(scale, self.model, similarity, self.prior, stage.restraint)
        values.prepare(poses, stage.sparse, self.seed)
        minima = self._minima(optimiser, values, poses)
        found = moved(poses, minima.twists, self.model.pivot)
        rows = self._best(found, minima.values, self.scales.pixel_mm(scale.intrinsics), stage.keep)
        self.n_renders += values.n_renders
        return Found(found[rows], minima.converged[rows])

    def _by_learned(self, poses: RigidTransform, stage: StageOptions, similar: ImageProblem) -> Found:
        """A prior has no say here: it is counted in pixels, and there are none."""
        before, problem = similar.projector.n_renders, similar.problem
        with torch.no_grad():
            if isinstance(stage.optimiser, LevenbergMarquardt):
                at, here, converged = stage.optimiser.minimise(problem, problem.evaluate(poses))
                found, values = at.poses, here.cost
            else:
                minima = self._minima(stage.optimiser, problem, poses)
                found, values, converged = retract(poses, minima.twists, similar.pivot), minima.values, minima.converged
        rows = self._best(found, values, 0.0, stage.keep)
        self.n_renders += similar.projector.n_renders - before
        return Found(found[rows], converged[rows])

    def _minima(self, optimiser: AbstractOptimiser[Any], values: ValueProblem, poses: RigidTransform) -> Minima:
        """With the run's seed, and with gradients for those that ask for them."""
        if isinstance(optimiser, CMAES):
            optimiser = replace(optimiser, seed=optimiser.seed + self.seed)
        problem: Any = AutogradProblem(values) if isinstance(optimiser, (Adam, GradientDescent)) else values
        return optimiser.minimise(problem, poses)

    def _judged(self, found: Found) -> Refined:
        """Poses that were not found by residuals, by those of gradient NCC."""
        judged = self.objective(ASSESSED_PX, found.poses)
        at = judged.evaluate(found.poses)
        linearised = judged.linearise(at)
        converged = found.converged.clone()
        converged[:1] &= is_at_optimum(judged, take(at, torch.tensor([0])), take(linearised, torch.tensor([0])))
        self.n_renders += judged.n_renders
        return Refined(judged, at, linearised, converged)

    def _best(self, poses: RigidTransform, values: Float[Tensor, "batch"], pixel_mm: float, keep: int) -> Int[Tensor, "kept"]:
        """Which of the poses go on: the best ones that are distinct."""
        apart_mm = max(pixel_mm / 2, self.distinct_mm)
        return torch.tensor(self.metric.distinct(poses, values.argsort(), apart_mm, keep))


def is_at_optimum(objective: PoseObjective, at: Evaluation, here: WeightedNormalEquations) -> Bool[Tensor, "batch"]:
    """Whether Levenberg-Marquardt from each pose ends within the covariance that would be reported for it.

    What another similarity, a restraint or a slack tolerance calls the best pose may lie further off than that: then the
    covariance would be a lie. A single Gauss-Newton step does not tell: far from an optimum it is short.
    """
    ended, _, _ = LevenbergMarquardt().minimise(objective, at)
    moved_by = se3.local(at.poses, ended.poses, objective.model.pivot)
    pixels = effective_pixels(here.weight).tolist()
    rows = zip(here.hessian, here.cost.tolist(), pixels, at.poses.rotation, strict=True)
    information = torch.stack([twist_information(*row) for row in rows])
    distance = (moved_by * (information @ moved_by[..., None]).squeeze(-1)).sum(-1)
    return torch.isfinite(here.cost) & (distance >= 0) & (distance <= MAXIMUM_DEVIATION_SD**2)
