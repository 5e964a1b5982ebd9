"""`FrameSolver`: one frame from a predicted pose, by fused passes, with the same assessment as any other registration.

What an earlier frame has settled is used again: the reading of image and CT, gain and offset, the renderers. The pixels that
count are those at the predicted pose while the pose is refined, and those at the refined pose when it is assessed.
"""

from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration.assessment.evidence import Assessment, assess, information_of
from fluoro_reg.registration.method import StageOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.stages.ct_readings import CTReading
from fluoro_reg.registration.stages.masks import near_object
from fluoro_reg.registration.stages.objective import PoseObjective, PosePrior, Scale, effective_pixels
from fluoro_reg.registration.stages.refined import Refined
from fluoro_reg.registration.stages.scales import ImageScales
from fluoro_reg.registration.tracking.passes import fused_pass_of, has_fused_pass
from fluoro_reg.registration.tracking.refine import MAXIMUM_PASSES, FrameMemory, FrameRefiner, RefinedFrame
from fluoro_reg.registration.view_run import Clock
from fluoro_reg.rendering import project
from fluoro_reg.similarity import AbstractResidualSimilarity
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.continued import KnownReading, read_again
from fluoro_reg.xray.preprocessing.preprocess import preprocess_reading

_WARM_UP_PIXEL_MM = 2.0
PREDICTION_FAILED = "the pose did not converge from the predicted one"
COARSER = 2  # the one coarse step has half the pixels, where the basin is twice as wide
COARSE_PASSES = 12  # each costs a quarter


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of a frame, and the information of its image on the twist of the pose; None if there is no pose."""

    result: RegistrationResult
    information: Float[Tensor, "6 6"] | None


@dataclass(slots=True)
class FrameSolver:
    """Registers the frames of one stream from predicted poses. Not for two threads at once."""

    registrar: Registrar
    _known: KnownReading | None = field(default=None, init=False)
    _memory: dict[int, FrameMemory] = field(default_factory=dict, init=False)

    @property
    def is_available(self) -> bool:
        """Whether the method's last stage has a fused pass on this device; other methods are tracked by their last stages."""
        stage = self.registrar.method.stages[-1]
        renderer, _ = self.registrar.readings.whole.renderers.for_pixel(_WARM_UP_PIXEL_MM)
        return isinstance(stage.optimiser, LevenbergMarquardt) and has_fused_pass(stage.similarity, renderer)

    def solve(
        self,
        xray: XrayImage,
        predicted: RigidTransform,
        last: RegistrationResult,
        prior: PosePrior | None = None,
        coarse: bool = False,
    ) -> Attempt | None:
        """Register a frame from a predicted pose.

        Args:
            xray: The X-ray.
            predicted: `camera_from_patient`.
            last: The last accepted result. Its reading and the similarity of its decoys are used again.
            prior: The prediction as a prior on the published pose; None for the pose of the image alone.
            coarse: Whether to take the coarse step first, as after a prediction that failed. Without it, a pose that has not
                converged is not assessed.

        Returns:
            The attempt; None if image or CT cannot be read in this way any more.
        """
        clock, reading, name = Clock(), last.reading, last.reading.partition("; ")
        options = self.registrar.options
        coarse_xray = coarse_image(xray.pixels, xray.mask)
        self._known = read_again(xray, coarse_xray, name[0], options.preprocess, self._known)
        ct_reading = self.registrar.readings.named(name[2])
        if self._known is None or ct_reading is None:
            return None
        prepared = preprocess_reading(xray, coarse_xray, self._known.reading, options.preprocess)
        clock.lap("preprocess")
        result = RegistrationResult(
            Outcome.REJECTED_IMAGE,
            prepared.rejection or "",
            self.registrar.method.name,
            initial_camera_from_patient=predicted,
            intensity=prepared.intensity.value,
            intensity_confidence=prepared.intensity_confidence if prepared.intensity_inferred else None,
            reading=reading,
            readings=self.registrar.readings.decisions(reading),
            pose_source="image" if prior is None else "filtered",
        )
        if prepared.rejection is not None:
            return Attempt(_timed(result, clock), None)
        run = _FrameRun(self, ct_reading, ct_reading.scales(prepared, predicted), prior)
        refined = run.refine(predicted, coarse)
        clock.lap("refine")
        if not (refined.converged or coarse):
            result = replace(result, outcome=Outcome.NOT_CONVERGED, reason=PREDICTION_FAILED, n_renders=run.n_renders)
            return Attempt(_timed(result, clock), None)
        assessed, assessment = run.assess(refined, last.scores.get("decoy_similarity"))
        if assessment.outcome is Outcome.CONVERGED:
            self._memory.update(run.memory)
        clock.lap("assess")
        result = replace(
            result,
            outcome=assessment.outcome,
            reason=assessment.reason,
            camera_from_patient=refined.pose,
            similarity=assessment.evidence.similarity,
            alternatives=assessment.alternatives,
            covariance=assessment.covariance,
            n_renders=run.n_renders,
            scores=assessment.evidence.scores(),
        )
        return Attempt(_timed(result, clock), information_of(assessed))

    def warm_up(self) -> None:
        """Compile the pass, the masks and the assessment now instead of at the first tracked frame, on a small image."""
        if not self.is_available:
            return
        reading, stage = self.registrar.readings.whole, self.registrar.method.stages[-1]
        renderer, extent = reading.renderers.for_pixel(_WARM_UP_PIXEL_MM)
        camera = CameraIntrinsics(32, 32, 500.0, 500.0, 15.5, 15.5)
        towards = torch.tensor([0.0, 0.0, 700.0], dtype=torch.float64) - reading.model.pivot
        pose = RigidTransform(torch.eye(3, dtype=torch.float64), towards)
        fixed = torch.linspace(0.0, 1.0, 32)[None, :, None] * torch.linspace(0.0, 1.0, 32)
        scale = Scale(renderer, camera, fixed, torch.ones(1, 32, 32), replace(extent, cut_high=~extent.cut_low), 1.0)
        objective = PoseObjective(scale, reading.model, cast(AbstractResidualSimilarity, stage.similarity))
        objective.linearise(objective.evaluate(RigidTransform.stack([pose])))
        if (fused := fused_pass_of(scale, reading.model, stage.similarity, scale.usable[0])) is not None:
            fused.system(pose, np.ones_like(fused.fit))

    def memory(self, object_px: int) -> FrameMemory | None:
        """What the last accepted frame has learned at a scale."""
        return self._memory.get(object_px)


@dataclass(slots=True)
class _FrameRun:
    """One frame."""

    solver: FrameSolver
    reading: CTReading
    scales: ImageScales
    prior: PosePrior | None
    n_renders: int = 0
    memory: dict[int, FrameMemory] = field(default_factory=dict)

    @property
    def stage(self) -> StageOptions:
        return self.solver.registrar.method.stages[-1]

    @property
    def similarity(self) -> AbstractResidualSimilarity:
        return cast(AbstractResidualSimilarity, self.stage.similarity)

    @property
    def finest_px(self) -> int:
        return max(self.stage.object_px, self.reading.model.finest_px)

    def refine(self, predicted: RigidTransform, coarse: bool) -> RefinedFrame:
        """The pose at the finest scale, after a step at half of it if `coarse`."""
        begin = predicted
        if coarse:
            begin = self._refined(predicted, self.finest_px // COARSER, is_coarse=True).pose
        return self._refined(begin, self.finest_px, is_coarse=False)

    def assess(self, refined: RefinedFrame, decoy_similarity: float | None) -> tuple[Refined, Assessment]:
        """Score the pose with everything that the gates check, with the pixels that count there."""
        one = RigidTransform.stack([refined.pose])
        objective = PoseObjective(self.scales.scale(self.finest_px, one), self.reading.model, self.similarity)
        at = objective.evaluate(one)
        linearised = objective.linearise(at)
        self.n_renders += objective.n_renders
        converged = torch.tensor([refined.converged])
        assessed = Refined(objective, at, linearised, converged)
        registrar = self.solver.registrar
        assessment = assess(assessed, registrar.metric, registrar.options.gate)
        return assessed, assessment.beside_earlier_decoys(decoy_similarity, registrar.options.gate)

    def _refined(self, pose: RigidTransform, object_px: int, is_coarse: bool) -> RefinedFrame:
        scale = self.scales.scale(object_px, RigidTransform.stack([pose]), is_coarse)
        weight = self._weight(scale, pose)
        fused = fused_pass_of(scale, self.reading.model, self.similarity, weight)
        if fused is None:  # nothing to compare
            return RefinedFrame(pose, FrameMemory(np.zeros(0)), False)
        passes = COARSE_PASSES if is_coarse else MAXIMUM_PASSES
        refiner = FrameRefiner(fused, self.reading.model.pivot, float(effective_pixels(weight[None])[0]), self.prior, passes)
        refined = refiner.refine(pose, self.solver.memory(object_px))
        self.n_renders += fused.n_renders
        self.memory[object_px] = refined.memory
        return refined

    def _weight(self, scale: Scale, pose: RigidTransform) -> Float[Tensor, "height width"]:
        """The pixels that count at a pose."""
        one, near = RigidTransform.stack([pose]), torch.ones_like(scale.usable)
        if self.reading.model.roi != "full":
            near = near_object(project(scale.renderer, one, scale.intrinsics).cpu(), self.reading.model.roi, scale.margin_px)
            self.n_renders += 1
        return scale.weight(one, near)[0]


def _timed(result: RegistrationResult, clock: Clock) -> RegistrationResult:
    return replace(result, elapsed_s=clock.total(), seconds=clock.laps)
