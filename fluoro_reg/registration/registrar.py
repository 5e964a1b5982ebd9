"""`Registrar.register`: one image and a start to one judged pose. The whole story is in that one method."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import ImageProblem, SimilarityInference
from fluoro_reg.registration.assessment.evidence import Assessment, assess
from fluoro_reg.registration.method import (
    Method,
    PredictionOptions,
    StageOptions,
    learned_similarities,
    load_method,
    missing_weights,
)
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.stages.joint import JointObjective, assess_jointly, refine_together
from fluoro_reg.registration.stages.objective import ObjectModel, PoseObjective, PosePrior
from fluoro_reg.registration.stages.pose_metric import PoseMetric, reference_points
from fluoro_reg.registration.stages.scales import CoarseRenderers, ImageScales, box_corners
from fluoro_reg.registration.stages.solver import Refined, Solver
from fluoro_reg.regressor import PosePredictor
from fluoro_reg.rendering import resolve_device
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed, preprocess
from fluoro_reg.xray.view import CalibratedXray

METAL_ATTENUATION = 0.065  # 1/mm: denser than any bone
SATURATION_DEPTH_MM = 7.0  # metal of this thickness leaves 1/e of the contrast; 3 to 10 on real knee implants
WARM_UP_PIXEL_MM = 2.0
MOSTLY_AIR = 0.15  # a CT of which less than this share is not air is one object and not a body


@dataclass(slots=True)
class Registrar:
    """Registers X-rays to one CT by one named method. Not for use from two threads at once."""

    volume: CTVolume
    options: RegistrationOptions
    method: Method = field(init=False)
    predictor: PosePredictor | None = field(init=False)
    learned: dict[str, SimilarityInference] = field(init=False)
    renderers: CoarseRenderers = field(init=False)
    model: ObjectModel = field(init=False)
    metric: PoseMetric = field(init=False)
    corners_patient: Float[Tensor, "8 3"] = field(init=False)

    def __post_init__(self) -> None:
        if not (self.volume.attenuation > 0).any():
            raise InputError("the CT holds nothing but air; are its values Hounsfield units?")
        self.method = load_method(self.options.method)
        model, weights, device = self.options.model, to_mapping(self.options.learned), resolve_device(self.options.device)
        if (sentence := missing_weights(self.method, model, weights)) is not None:
            raise InputError(sentence)
        self.predictor = PosePredictor.load(model, self.volume, device) if model else None
        self.learned = {
            kind: SimilarityInference.load(weights[kind], kind, self.volume, device) for kind in self.method.learned
        }
        self.renderers = CoarseRenderers(self.volume, device)
        self.renderers.for_pixel(WARM_UP_PIXEL_MM)[0].warm_up()  # compiles, so that the first image does not wait for it
        self.corners_patient = box_corners(self.volume, self.renderers.extent)
        self.metric = PoseMetric(reference_points(self.corners_patient))
        self.model = object_model(self.volume, self.options, self.corners_patient.mean(0))

    def register(
        self, image: XrayImage, start: RigidTransform | None, prior: PosePrior | None = None, tracking: bool = False
    ) -> RegistrationResult:
        """The pose of the CT in `image`, judged. `tracking` says that `start` is the last frame's pose: no search is made.

        With weights, `start` may be None: the network's poses are searched and refined, beside the given one if there is one.
        Bad images and starts come back as a rejected result, never as an exception.
        """
        with _one_torch_thread():
            return self._register(image, start, prior, tracking)

    def register_views(self, views: Sequence[CalibratedXray], start: RigidTransform) -> RegistrationResult:
        """The pose `reference_from_patient` that suits several X-rays of known relative geometry, judged in each of them.

        Each view is searched and refined alone from the common start, by the method; what they find is refined together, always
        by Levenberg-Marquardt on gradient NCC. A regressor's weights play no part. Times, intensity and scores are those of the
        view that the reason names.

        Raises:
            InputError: no view.
        """
        if not views:
            raise InputError("a registration of several views needs at least one")
        with _one_torch_thread():
            return self._register_views(views, start)

    def _register_views(self, views: Sequence[CalibratedXray], start: RigidTransform) -> RegistrationResult:
        clock, found, solvers, jobs = _Clock(), [], [], []
        for number, view in enumerate(views, 1):
            prepared = preprocess(view.image, self.options.preprocess)
            jobs.append(job := _Job(prepared, start, clock))
            if prepared.rejection is not None:
                return self._answer(Outcome.REJECTED_IMAGE, f"view {number}: {prepared.rejection}", job)
            alone = view.camera_from_reference @ start
            scales = self._scales(prepared, alone)
            if (reason := self._out_of_range(scales.depth_mm)) is not None:
                return self._answer(Outcome.REJECTED_POSE, f"view {number}: {reason}", job)
            try:
                learned = self._learned(prepared.image, self.method.stages)
            except InputError as error:
                return self._answer(Outcome.REJECTED_IMAGE, f"view {number}: {error}", job)
            solvers.append(self._solver(scales, None, learned))
            refined = solvers[-1].run(solvers[-1].starts(alone, self.method.search), self.method.stages)
            found.append(view.camera_from_reference.inverse() @ refined.poses)
        clock.lap("refine")
        candidates = RigidTransform.cat(found)
        objectives: list[PoseObjective] = []

        def joint_objective(object_px: int, poses: RigidTransform) -> JointObjective:
            cameras = tuple(view.camera_from_reference for view in views)
            seen = [solver.objective(object_px, camera @ poses) for solver, camera in zip(solvers, cameras, strict=True)]
            objectives.extend(seen)
            return JointObjective(tuple(seen), cameras)

        joint = refine_together(joint_objective, candidates, self.metric, self.options.gate.distinct_mm)
        clock.lap("refine together")
        verdict, number = assess_jointly(joint, self.metric, self.options.gate)
        n_renders = sum(solver.n_renders for solver in solvers) + sum(objective.n_renders for objective in objectives)
        return self._judgement(verdict, f"view {number + 1}: {verdict.reason}", joint.poses[0], n_renders, jobs[number])

    def _register(
        self, image: XrayImage, start: RigidTransform | None, prior: PosePrior | None, tracking: bool
    ) -> RegistrationResult:
        clock = _Clock()
        prepared = preprocess(image, self.options.preprocess)
        clock.lap("preprocess")
        job = _Job(prepared, start, clock)
        if prepared.rejection is not None:
            return self._answer(Outcome.REJECTED_IMAGE, prepared.rejection, job)
        starts = _Starts([] if start is None else [start])
        if self.predictor is not None and not tracking:
            starts = starts.and_predicted(self.predictor, prepared.image, self.method.prediction)
            clock.lap("predict")
        if not starts.searched:
            return self._answer(Outcome.NO_START, starts.reason, job)
        start = starts.searched[0]
        job = replace(job, start=start)
        scales = self._scales(prepared, start)
        if (reason := self._out_of_range(scales.depth_mm)) is not None:
            return self._answer(Outcome.REJECTED_POSE, reason, job)
        stages = self.method.tracking_stages() if tracking else self.method.stages
        try:
            learned = self._learned(prepared.image, stages)
        except InputError as error:
            return self._answer(Outcome.REJECTED_IMAGE, str(error), job)
        solver = self._solver(scales, prior, learned)
        search = None if tracking else self.method.search
        poses = RigidTransform.cat([*(solver.starts(pose, search) for pose in starts.searched), *starts.refined])
        clock.lap("search")
        refined = solver.run(poses, stages)
        clock.lap("refine")
        return self._judged(refined, solver.n_renders, job)

    def _scales(self, prepared: Preprocessed, start: RigidTransform) -> ImageScales:
        """An implant is compared near its own edges, which no clipping moves: all outlines count."""
        outline = prepared.outline if self.model.roi == "full" else None
        return ImageScales(prepared.image, start, self.renderers, self.corners_patient, self.model.pivot, outline)

    def _out_of_range(self, depth_mm: float) -> str | None:
        near, far = self.options.gate.depth_range_mm
        if near <= depth_mm <= far:
            return None
        return f"the start puts the CT {depth_mm:.0f} mm in front of the source, outside {near:.0f} to {far:.0f} mm"

    def _learned(self, image: XrayImage, stages: Sequence[StageOptions]) -> dict[str, ImageProblem]:
        """The learned similarities that some stages follow, to an image."""
        return {kind: self.learned[kind].problem(image) for kind in learned_similarities(stages)}

    def _solver(self, scales: ImageScales, prior: PosePrior | None, learned: Mapping[str, ImageProblem]) -> Solver:
        return Solver(scales, self.model, self.metric, prior, self.options.gate.distinct_mm, self.options.seed, learned)

    def _judged(self, refined: Refined, n_renders: int, job: "_Job") -> RegistrationResult:
        verdict = assess(refined, self.metric, self.options.gate)
        return self._judgement(verdict, verdict.reason, refined.poses[0], n_renders, job)

    def _judgement(
        self, verdict: Assessment, reason: str, pose: RigidTransform, n_renders: int, job: "_Job"
    ) -> RegistrationResult:
        job.clock.lap("check_gates")
        return replace(
            self._answer(verdict.outcome, reason, job),
            camera_from_patient=pose,
            similarity=verdict.evidence.similarity,
            alternatives=verdict.alternatives,
            covariance=verdict.covariance,
            n_renders=n_renders,
            scores=verdict.evidence.scores(),
        )

    def _answer(self, outcome: Outcome, reason: str, job: "_Job") -> RegistrationResult:
        return RegistrationResult(
            outcome,
            reason,
            self.method.name,
            initial_camera_from_patient=job.start,
            intensity=job.prepared.intensity.value,
            intensity_confidence=job.prepared.confidence if job.prepared.judged else None,
            elapsed_s=job.clock.total(),
            device=self.renderers.device,
            seconds=job.clock.laps,
        )


def object_model(volume: CTVolume, options: RegistrationOptions, pivot: Float[Tensor, "3"]) -> ObjectModel:
    """What `auto` means for this CT: an object in air is compared near its projection, and metal saturates."""
    filled = volume.attenuation > 0
    roi = options.roi
    if roi == "auto":
        roi = "moving-support" if float(filled.float().mean()) < MOSTLY_AIR else "full"
    if options.saturation not in ("auto", "off"):
        return ObjectModel(pivot, roi, float(options.saturation))
    values = volume.attenuation[filled]
    dense = float(values[:: max(1, values.numel() // 100_000)].quantile(0.9))
    metal = options.saturation == "auto" and dense > METAL_ATTENUATION
    return ObjectModel(pivot, roi, 1 / (dense * SATURATION_DEPTH_MM) if metal else 0.0)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """torch's own threads wait for each other at every small operation: on a machine that does anything else besides, images of
    128 pixels take ten times as long on two of them as on one. The renderer has threads of its own, which never wait.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._begin = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now

    def total(self) -> float:
        return time.perf_counter() - self._begin


@dataclass(frozen=True, slots=True)
class _Starts:
    """Poses to search around, batches to refine as they are, and why there is none where there is none."""

    searched: list[RigidTransform]
    refined: list[RigidTransform] = field(default_factory=list)
    reason: str = "no start pose is known: give one"

    def and_predicted(self, predictor: PosePredictor, image: XrayImage, options: PredictionOptions) -> "_Starts":
        """With what the network says of the image, after what was given."""
        try:
            predictions = predictor.predict(image, options.behind)
        except InputError as error:
            return replace(self, reason=str(error))
        around = [prediction.neighbours(options.spread) for prediction in predictions] if options.spread > 0 else []
        return _Starts([*self.searched, *(prediction.camera_from_patient for prediction in predictions)], around)


@dataclass(frozen=True, slots=True)
class _Job:
    """What every answer to one image tells."""

    prepared: Preprocessed
    start: RigidTransform | None
    clock: _Clock
