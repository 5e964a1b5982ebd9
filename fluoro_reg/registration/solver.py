"""From starts to refined hypotheses: the search, then Levenberg-Marquardt scale by scale, fewer hypotheses each time."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.optimisers.batch import take
from fluoro_reg.registration.hypotheses import PoseMetric
from fluoro_reg.registration.methods import SearchOptions, StageOptions
from fluoro_reg.registration.objective import Evaluation, Linearisation, ObjectModel, PoseObjective, PosePrior
from fluoro_reg.registration.scales import ImageScales
from fluoro_reg.registration.search import search
from fluoro_reg.similarity import GradientNCC


@dataclass(frozen=True, slots=True)
class Refined:
    """Distinct hypotheses after a stage, best first, and whether each met the optimiser's tolerance."""

    objective: PoseObjective
    at: Evaluation
    linearised: Linearisation
    converged: Bool[Tensor, "batch"]

    @property
    def poses(self) -> RigidTransform:
        return self.at.poses


@dataclass(slots=True)
class Solver:
    """The search and the stages over one image."""

    scales: ImageScales
    model: ObjectModel
    metric: PoseMetric
    prior: PosePrior | None
    distinct_mm: float  # hypotheses closer than this are one, so that every place kept is a possible rival
    n_renders: int = 0

    def starts(self, start: RigidTransform, options: SearchOptions | None) -> RigidTransform:
        """The start, and with `options` the best places that the search finds besides it."""
        alone = RigidTransform.stack([start])
        if options is None or options.keep == 0:
            return alone
        scale = self.scales.scale(options.object_px, None)
        objective = PoseObjective(scale, self.model, GradientNCC())
        found = search(objective, start, options)
        self.n_renders += objective.n_renders
        pixel_mm = self.scales.pixel_mm(scale.intrinsics)
        order = found.correlation.argsort(descending=True)
        rows = self.metric.distinct(found.poses, order, pixel_mm, options.keep)
        best = found.poses[torch.tensor(rows)]
        return RigidTransform(torch.cat([alone.rotation, best.rotation]), torch.cat([alone.translation, best.translation]))

    def run(self, poses: RigidTransform, stages: tuple[StageOptions, ...]) -> Refined:
        """Every stage in turn."""
        for stage in stages:
            refined = self._refine(poses, stage)
            poses = refined.poses
        return refined

    def _refine(self, poses: RigidTransform, stage: StageOptions) -> Refined:
        scale = self.scales.scale(stage.object_px, poses)
        pixel_mm = self.scales.pixel_mm(scale.intrinsics)
        objective = PoseObjective(scale, self.model, stage.build_similarity(), self.prior)
        optimiser = LevenbergMarquardt(iterations=stage.iterations)
        at, linearised, converged = optimiser.minimise(objective, objective.evaluate(poses))
        self.n_renders += objective.n_renders
        order = linearised.cost.argsort()
        rows = torch.tensor(self.metric.distinct(at.poses, order, max(pixel_mm / 2, self.distinct_mm), stage.keep))
        return Refined(objective, take(at, rows), take(linearised, rows), converged[rows])
