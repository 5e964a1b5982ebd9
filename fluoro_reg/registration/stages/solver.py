"""From initial poses to refined hypotheses: the search, then one optimiser per scale, with fewer hypotheses each time.

Levenberg-Marquardt ends with what the gates need, residuals and a Hessian, at the scale and with the similarity of its last
stage. Where another optimiser or a learned similarity comes last, both are computed at its result with gradient NCC, at the
scale for which the thresholds of the gates were measured. Such a stage has converged if its optimiser has, and if gradient NCC
agrees within the reported covariance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import ImageProblem
from fluoro_reg.optimisers import AbstractOptimiser, LevenbergMarquardt
from fluoro_reg.optimisers.batch import take
from fluoro_reg.registration.memory import parts_of
from fluoro_reg.registration.method import Learned, SearchOptions, StageOptions
from fluoro_reg.registration.stages.minimise import minimise_learned, minimise_values
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import (
    Evaluation,
    PoseObjective,
    PosePrior,
    Scale,
    WeightedNormalEquations,
    image_evidence,
)
from fluoro_reg.registration.stages.optimum import is_at_optimum
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.pose_values import PoseValues, moved
from fluoro_reg.registration.stages.refined import Found, Refined
from fluoro_reg.registration.stages.scales import ImageScales
from fluoro_reg.registration.stages.search import search
from fluoro_reg.similarity import NCC, AbstractResidualSimilarity, AbstractSimilarity, GradientNCC

ASSESSED_PX = 128  # across the CT's projection, as in the last stage of the methods of Levenberg-Marquardt
HOPELESS = 0.3  # of the best evidence: a hypothesis with less is dropped after a stage, or ends early in the last
JUDGED_AFTER = 4  # steps of the last stage, most of the way from a coarser scale: a hypothesis may end as hopeless
RIVAL = 0.65  # of the best evidence: where no pose was given, a hypothesis with more may be as good at a finer scale
KEEP_RIVALS = 8  # hypotheses at most that stay for that reason, together with those that a stage keeps
RIVAL_MM = 20.0  # from the best pose: what is nearer may still lead to it
COMPARED_PX = 64  # across the CT's projection: readings are compared
COMPARED_FROM_AFAR_PX = 192  # where no pose was given: with fewer, wrong poses explain bone as well as right ones
KEEP_COMPARED = 4  # hypotheses of a reading, the best first, where they are compared with so many pixels


@dataclass(slots=True)
class Solver:
    """The search and the stages over one image."""

    scales: ImageScales
    model: ObjectModel
    metric: PoseMetric
    refiners: NCCRefiners
    prior: PosePrior | None
    distinct_mm: float  # hypotheses closer than this count as one, so that each one kept is a possible alternative
    seed: int = 0
    learned: Mapping[str, ImageProblem] = field(default_factory=dict)
    keeps_rivals: bool = False  # no hypothesis that explains the image as well may be lost, because nothing else excludes it
    n_renders: int = 0

    def initial_poses(self, initial_pose: RigidTransform, options: SearchOptions | None) -> RigidTransform:
        """The initial pose and, with `options`, the best poses that the search finds besides it."""
        alone = RigidTransform.stack([initial_pose])
        if options is None or options.keep == 0:
            return alone
        scale = self.scales.scale(options.object_px, None, coarse=True)
        objective = PoseObjective(scale, self.model, GradientNCC())
        found = search(objective, initial_pose, options)
        self.n_renders += objective.n_renders
        pixel_mm = self.scales.pixel_mm(scale.intrinsics)
        order = found.correlation.argsort(descending=True)
        rows = self.metric.distinct(found.poses, order, pixel_mm, options.keep)
        return RigidTransform.cat([alone, found.poses[torch.tensor(rows)]])

    def objective(self, object_px: int, poses: RigidTransform) -> PoseObjective:
        """Gradient NCC at a scale, around given poses. At `ASSESSED_PX` it assesses the poses of any method."""
        return PoseObjective(self.scales.scale(object_px, poses), self.model, GradientNCC(), self.prior)

    def run_coarse(self, poses: RigidTransform, stages: tuple[StageOptions, ...]) -> RigidTransform:
        """Run every stage but the last in turn. Returns the remaining hypotheses, best first, or by group (`run_apart`).

        A learned similarity may end anywhere, and only the image tells: what it began from therefore goes on apart from what it
        has found. Views of bone go on beside what the first stage makes of them, too, because they have approached the X-ray
        with more pixels than the first stages have. Poses from all stages are then compared at `COMPARED_FROM_AFAR_PX`.
        """
        has_approached = self.keeps_rivals and self.model.local_mm > 0
        everything = [poses]
        for number, stage in enumerate(stages[:-1]):
            found = self._run_stage(poses, stage, coarse=True).poses
            if isinstance(stage.similarity, Learned):
                return self.run_apart([poses, found], stages[number + 1 :])
            poses = RigidTransform.cat([poses, found]) if number == 0 and has_approached else found
            everything.append(found)
        if not has_approached or len(stages) < 2:
            return poses
        poses = RigidTransform.cat(everything)
        scale = self.scales.from_afar(COMPARED_FROM_AFAR_PX)
        return poses[self._likely(poses, self._evidence_from_afar(poses), scale, stages[-2].keep)]

    def run_apart(self, groups: Sequence[RigidTransform], stages: tuple[StageOptions, ...]) -> RigidTransform:
        """Run every stage but the last for each group by itself, so that none ends for what another has found.

        Returns the hypotheses of every group in their order, the group with the most evidence first, and once what several
        have found. The last stage decides.
        """
        found = [self.run_coarse(group, stages) for group in groups]
        if len(found) == 1:
            return found[0]
        everything = RigidTransform.cat(sorted(found, key=self.evidence, reverse=True))
        n = len(everything.translation)
        return everything[torch.tensor(self.metric.distinct(everything, torch.arange(n), self.distinct_mm, n))]

    def run_learned(self, poses: RigidTransform, stage: StageOptions) -> RigidTransform:
        """Where a learned stage ends from some poses, the best first."""
        return self._run_stage(poses, stage, coarse=True).poses

    def run_last(self, poses: RigidTransform, stages: tuple[StageOptions, ...]) -> Refined:
        """Run the last stage. Its hypotheses can be assessed."""
        stage = stages[-1]
        comes_from_coarser = len(stages) > 1 and not isinstance(stages[-2].similarity, Learned)
        refined = self._run_stage(poses, stage, coarse=False, is_judged=comes_from_coarser)
        if not isinstance(refined, Refined):
            return self._assessed(refined)
        if self.model.finest_px > stage.object_px:
            finest = replace(stage, object_px=self.model.finest_px)
            refined = cast(Refined, self._run_stage(refined.poses, finest, False, is_judged=True))  # by the same optimiser
        return refined

    def evidence(self, poses: RigidTransform) -> float:
        """The evidence of the best of some poses, at the scale at which readings of an X-ray and a CT are compared.

        A search of all views finds a pose for a wrong reading, too, which explains the X-ray at a coarse scale only.
        """
        if self.keeps_rivals:
            return float(self._evidence_from_afar(poses[:KEEP_COMPARED]).max())
        seen = self._compared(poses, self.scales.scale(COMPARED_PX, None, coarse=True))
        return float(image_evidence(*seen).nan_to_num(0.0).max())

    def evidence_of_rival(self, poses: RigidTransform) -> float:
        """The highest evidence of the poses that are further than `RIVAL_MM` from that of `evidence`; 0 if there is none."""
        evidence = self._evidence_from_afar(poses)
        is_rival = self.metric.distances(poses, poses[int(evidence[:KEEP_COMPARED].argmax())]) > RIVAL_MM
        return float(evidence[is_rival].max()) if bool(is_rival.any()) else 0.0

    def _evidence_from_afar(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        seen = self._compared(poses, self.scales.from_afar(COMPARED_FROM_AFAR_PX))
        return image_evidence(*seen).nan_to_num(0.0)  # NaN would win

    def similarity(self, poses: RigidTransform) -> float:
        """The gradient NCC of the best of the first few poses, as the gates see it."""
        scale = self.scales.scale(ASSESSED_PX, None)
        return float(GradientNCC().score(*self._compared(poses[:KEEP_COMPARED], scale)).max())

    def coarse_similarity(self, poses: RigidTransform) -> float:
        """The gradient NCC of the best of some poses, at the coarser of these scales."""
        return float(GradientNCC().score(*self._compared(poses, self.scales.scale(COMPARED_PX, None, coarse=True))).max())

    def _compared(self, poses: RigidTransform, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
        """Rendered images, the X-ray and the weights at a scale."""
        objective = PoseObjective(scale, self.model, GradientNCC())
        at = objective.images(poses)
        self.n_renders += objective.n_renders
        return at.moving, objective.scale.fixed, objective.weight(at)

    def _run_stage(self, poses: RigidTransform, stage: StageOptions, coarse: bool, is_judged: bool = False) -> Refined | Found:
        if isinstance(stage.similarity, Learned):
            return self._minimise_learned(poses, stage, self.learned[stage.similarity.kind])
        if isinstance(stage.optimiser, LevenbergMarquardt):
            if isinstance(stage.similarity, NCC) and self.model.is_plain and self.prior is None:
                return self._refine_ncc(poses, stage, stage.optimiser, stage.similarity, coarse)
            return self._refine_residuals(poses, stage, stage.optimiser, coarse, is_judged)
        return self._minimise_values(poses, stage, stage.optimiser, coarse)

    def _refine_residuals(
        self, poses: RigidTransform, stage: StageOptions, optimiser: LevenbergMarquardt, coarse: bool, is_judged: bool
    ) -> Refined | Found:
        """By residuals of images. With `is_judged`, hypotheses may end early."""
        similarity = cast(AbstractResidualSimilarity, stage.similarity)  # or the method would not have been read
        if isinstance(similarity, GradientNCC) and self._stays_on_device(stage.object_px, coarse):
            return self._refine_on_device(poses, stage, optimiser, similarity, coarse)
        scale = self.scales.scale(stage.object_px, poses, coarse)
        if coarse and self.keeps_rivals:
            scale = scale.locally(self.scales.local_px(scale.intrinsics))
        objective = PoseObjective(scale, self.model, similarity, self.prior)

        def is_hopeless(at: Evaluation, linearised: WeightedNormalEquations) -> Bool[Tensor, "batch"]:
            evidence = _evidence(scale, at, linearised)
            return evidence < HOPELESS * evidence.max()

        begin, judge = objective.evaluate(poses), is_hopeless if is_judged else None
        at, linearised, converged = optimiser.minimise(objective, begin, judge, JUDGED_AFTER)
        self.n_renders += objective.n_renders
        rows = self._likely(at.poses, _evidence(scale, at, linearised), scale, stage.keep)
        return Refined(objective, take(at, rows), take(linearised, rows), converged[rows])

    def _stays_on_device(self, object_px: int, coarse: bool) -> bool:
        """Whether a stage on gradient NCC runs on a GPU; priors and local means have no implementation there."""
        is_local = coarse and self.keeps_rivals and self.model.local_mm > 0
        return self.scales.renderer(object_px).device.type == "cuda" and self.prior is None and not is_local

    def _refine_on_device(
        self,
        poses: RigidTransform,
        stage: StageOptions,
        optimiser: LevenbergMarquardt,
        similarity: GradientNCC,
        coarse: bool,
    ) -> Refined | Found:
        """The same without images on the host, but for those of the last stage, which are assessed. None ends early."""
        scale = self.scales.framed(stage.object_px, poses, coarse)
        parts = []
        for part in parts_of(poses):
            refiner = self.refiners.gradient_refiner(scale, self.model, len(part.translation), optimiser, similarity)
            parts.append(refiner.refine(part, scale.fixed, scale.usable))
        self.n_renders += sum(part.n_renders for part in parts)
        found = RigidTransform.cat([part.poses for part in parts])
        converged = torch.cat([part.converged for part in parts])
        rows = self._likely(found, torch.cat([part.evidence for part in parts]), scale, stage.keep)
        if coarse:
            return Found(found[rows], converged[rows])
        objective = PoseObjective(self.scales.scale(stage.object_px, poses), self.model, similarity)
        at = objective.evaluate(found[rows])
        here = objective.linearise(at)
        met = converged[rows] & is_at_optimum(objective, at, here)  # whose masks and clipping differ a little from the device's
        self.n_renders += objective.n_renders
        return Refined(objective, at, here, met)

    def _likely(self, poses: RigidTransform, evidence: Float[Tensor, "batch"], scale: Scale, keep: int) -> Int[Tensor, "kept"]:
        """The rows that go on after a stage that keeps `keep`, the best first."""
        most = max(keep, KEEP_RIVALS) if self.keeps_rivals else keep
        rows = self._best(poses, -evidence, self.scales.pixel_mm(scale.intrinsics), most)
        minimum = torch.tensor([HOPELESS] * keep + [RIVAL] * most)[: len(rows)]
        return rows[evidence[rows] >= minimum * evidence[rows[0]]]

    def _refine_ncc(
        self, poses: RigidTransform, stage: StageOptions, optimiser: LevenbergMarquardt, similarity: NCC, coarse: bool
    ) -> Found:
        """Global NCC of whole images, whose normal equations the renderer accumulates. Masks are those of the first poses."""
        scale = self.scales.scale(stage.object_px, None, coarse)
        device, refined, costs, converged = scale.renderer.device, [], [], []
        for part in parts_of(poses):
            refiner = self.refiners.refiner(scale.renderer, scale.intrinsics, len(part.translation), optimiser, similarity)
            weight = scale.weight(part, torch.ones_like(scale.usable))
            found, cost, met = refiner.refine(part, scale.fixed[0].to(device), weight.to(device))
            refined.append(found.to("cpu", torch.float64))
            costs.append(cost.cpu())
            converged.append(met.cpu())
        self.n_renders += len(poses.translation) * (1 + optimiser.iterations)
        found = RigidTransform.cat(refined)
        rows = self._best(found, torch.cat(costs), self.scales.pixel_mm(scale.intrinsics), stage.keep)
        return Found(found[rows], torch.cat(converged)[rows])

    def _minimise_values(
        self, poses: RigidTransform, stage: StageOptions, optimiser: AbstractOptimiser[Any], coarse: bool
    ) -> Found:
        scale = self.scales.scale(stage.object_px, None, coarse)
        similarity = cast(AbstractSimilarity, stage.similarity)
        values = PoseValues(scale, self.model, similarity, self.prior, stage.restraint)
        values.prepare(poses, stage.sparse, self.seed)
        minima = minimise_values(optimiser, values, poses, self.seed)
        found = moved(poses, minima.twists, self.model.pivot)
        most = stage.keep if coarse else len(found.translation)
        rows = self._best(found, minima.values, self.scales.pixel_mm(scale.intrinsics), most)
        self.n_renders += values.n_renders
        if len(rows) > 1:  # another similarity is the judge: of what is worth refining, and of the result
            evidence = image_evidence(*self._compared(found[rows], self.scales.scale(COMPARED_PX, None, coarse=True)))
            likely = evidence >= RIVAL * evidence.max() if coarse else evidence.argsort(descending=True)[: stage.keep]
            rows = rows[likely]
        return Found(found[rows], minima.converged[rows])

    def _minimise_learned(self, poses: RigidTransform, stage: StageOptions, similar: ImageProblem) -> Found:
        before = similar.projector.n_renders
        found, values, converged = minimise_learned(stage.optimiser, similar, poses, self.seed)
        rows = self._best(found, values, 0.0, stage.keep)
        self.n_renders += similar.projector.n_renders - before
        return Found(found[rows], converged[rows])

    def _assessed(self, found: Found) -> Refined:
        """Residuals of gradient NCC for poses that were found without residuals."""
        assessed = self.objective(ASSESSED_PX, found.poses)
        at = assessed.evaluate(found.poses)
        linearised = assessed.linearise(at)
        converged = found.converged.clone()
        converged[:1] &= is_at_optimum(assessed, take(at, torch.tensor([0])), take(linearised, torch.tensor([0])))
        self.n_renders += assessed.n_renders
        return Refined(assessed, at, linearised, converged)

    def _best(self, poses: RigidTransform, values: Float[Tensor, "batch"], pixel_mm: float, keep: int) -> Int[Tensor, "kept"]:
        """Rows of the best distinct poses."""
        apart_mm = max(pixel_mm / 2, self.distinct_mm)
        return torch.tensor(self.metric.distinct(poses, values.argsort(), apart_mm, keep))


def _evidence(scale: Scale, at: Evaluation, linearised: WeightedNormalEquations) -> Float[Tensor, "batch"]:
    return image_evidence(at.moving, scale.fixed, linearised.weight).nan_to_num(0.0)  # NaN would win
