"""`Registrar`: from X-rays and an initial pose to one assessed pose. `Registrar._register_once` shows all steps in order."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from fluoro_reg.carm.range import CarmRange, load_range
from fluoro_reg.config import from_mapping, to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import SimilarityInference
from fluoro_reg.registration.assessor import Assessor
from fluoro_reg.registration.candidates import Candidate, CandidateMaker, UnusableXrayError
from fluoro_reg.registration.first_view import register_from_first
from fluoro_reg.registration.likeliest import likeliest
from fluoro_reg.registration.memory import OUT_OF_MEMORY, retried_smaller
from fluoro_reg.registration.method import Method, load_method, missing_weights
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.providers import Predictor, SimilarityProvider
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.stages.ct_readings import CTReadings
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.objective import PosePrior
from fluoro_reg.registration.stages.pose_metric import PoseMetric, reference_points
from fluoro_reg.registration.stages.view_search import DEFAULT_RANGE, QUICK, THOROUGH, Effort, ViewSearch
from fluoro_reg.registration.view_run import Clock, Request, ViewRun
from fluoro_reg.registration.view_starts import SearchedViews, register_in_views
from fluoro_reg.regressor import PosePredictor
from fluoro_reg.rendering import resolve_device
from fluoro_reg.rendering.threads import one_torch_thread
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed, preprocess_readings
from fluoro_reg.xray.view import CalibratedXray

_WARM_UP_PIXEL_MM = 2.0


class Registrar:
    """Registers X-rays to one CT by one method. Do not use a registrar from two threads at once.

    Args:
        ct: The CT, as `fluoro_reg.read_ct` returns it.
        options: All settings; without them, the defaults.
        method: A method's name (`fluoro-reg methods` lists them), the path of a YAML file, or a `Method`. It takes precedence
            over `options.method`, which is not changed.
        seed: The random seed. It takes precedence over `options.seed`.
        predictor: Finds initial poses in an image. By default, the regressor whose weights `options.model` names, if any.
        similarities: Learned similarities by name. By default, those whose weights `options.learned` names.

    Raises:
        InputError: The CT holds only air, there is no such method or device, or the method's weights are missing.
    """

    def __init__(
        self,
        ct: CTVolume,
        options: RegistrationOptions | None = None,
        *,
        method: Method | Path | str | None = None,
        seed: int | None = None,
        predictor: Predictor | None = None,
        similarities: Mapping[str, SimilarityProvider] | None = None,
    ) -> None:
        if not (ct.attenuation > 0).any():
            raise InputError("the CT contains only air; check that its values are Hounsfield units")
        options = options or RegistrationOptions()
        self.ct = ct
        self.options = options if seed is None else from_mapping(RegistrationOptions, {**to_mapping(options), "seed": seed})
        self.method = load_method(options.method if method is None else method)
        self._device = resolve_device(options.device)
        given = dict(similarities or {})
        needed = {kind: given.get(kind) or weights for kind, weights in to_mapping(options.learned).items()}
        if (sentence := missing_weights(self.method, predictor or options.model, needed)) is not None:
            raise InputError(sentence)
        self._predictor = self._load_predictor() if predictor is None else predictor
        self._similarities = {kind: given.get(kind) or self._load_similarity(kind) for kind in self.method.learned}
        self._readings = CTReadings.of(ct, options.roi, options.saturation, self._device)
        whole = self._readings.whole
        whole.renderers.for_pixel(_WARM_UP_PIXEL_MM)[0].warm_up()  # compiles, so that the first image does not wait for it
        self._metric = PoseMetric(reference_points(whole.corners_patient))
        range_name = self.options.initial.given or self.method.search.range or DEFAULT_RANGE
        self._views = SearchedViews(load_range(range_name), range_name, bool(self.options.initial.given))
        self._candidates = CandidateMaker(
            self._readings,
            self._metric,
            NCCRefiners(whole.model.pivot),
            self._similarities,
            ViewSearch(self._views.carm, self._metric),
            self.options.gate.distinct_mm,
            self.options.seed,
        )

    @property
    def readings(self) -> CTReadings:
        """What of the CT can be rendered, and how it is compared."""
        return self._readings

    @property
    def metric(self) -> PoseMetric:
        """Measures how far apart two poses are."""
        return self._metric

    def beside(self) -> "Registrar":
        """A registrar for another thread: it shares what has been made of the CT, and has options and a state of its own.

        It must not search at the same time as this one; each of the two may track while the other searches.
        """
        other = copy.copy(self)
        other._candidates = replace(self._candidates, refiners=NCCRefiners(self._readings.whole.model.pivot))
        return other

    def register(
        self,
        xray: XrayImage,
        initial_pose: RigidTransform | None = None,
        prior: PosePrior | None = None,
        tracking: bool = False,
        reading: str = "",
        decoy_similarity: float | None = None,
        thorough: bool = True,
    ) -> RegistrationResult:
        """Find the pose of the CT in one X-ray and assess it.

        Args:
            xray: The X-ray with its intrinsics, as `fluoro_reg.read_xray` returns it.
            initial_pose: `camera_from_patient` to search around. It may be None if a regressor predicts poses. Predicted poses
                are searched and refined, in addition to an initial pose if there is one.
            prior: A Gaussian belief about the pose before the image is seen.
            tracking: Whether `initial_pose` is the pose of the previous frame. If so, there is no search.
            reading: The `reading` of the result of the previous frame. Where it is plausible, no other is tried.
            decoy_similarity: While tracking, the similarity that decoys of an earlier frame reached, if any was registered.
            thorough: Whether to search again, with more pixels and shorter steps, where nothing is known about the pose and no
                pose of the search stands out. This takes several times as long.

        Returns:
            The result. An unusable image or initial pose gives a rejected result, not an exception.
        """
        view = CalibratedXray(xray, RigidTransform.identity())
        readings = (reading,) if reading else ()
        request = Request(
            initial_pose, prior, tracking, readings=readings, decoy_similarity=decoy_similarity, is_thorough=thorough
        )
        if initial_pose is not None or self._predictor is not None:
            return replace(self._register([view], request), start="weights" if initial_pose is None else "pose")

        def register_within(parts: tuple[CarmRange, ...], thorough_too: bool) -> RegistrationResult:
            return self._register([view], replace(request, parts=parts, is_thorough=thorough and thorough_too))

        return register_in_views(self._views, xray.nominal_view, register_within)

    def register_views(
        self,
        views: Sequence[CalibratedXray],
        initial_pose: RigidTransform | None = None,
        tracking: bool = False,
        thorough: bool = True,
    ) -> RegistrationResult:
        """Find the pose that explains several X-rays of known relative geometry, and assess it in each of them.

        The method searches and refines each view on its own. All hypotheses are then refined jointly, by Levenberg-Marquardt on
        gradient NCC. A regressor predicts poses of the first view only, where no initial pose is given.

        Args:
            views: X-rays of the same, unmoved patient with the poses of their cameras.
            initial_pose: `reference_from_patient` to search around. If it is None, the first view is searched alone.
            tracking: Whether it is the pose of the previous frame. If so, there is no search.
            thorough: As in `register`.

        Returns:
            The result; its `camera_from_patient` is `reference_from_patient`. Intensity and scores are those of the view that
            the reason names.

        Raises:
            InputError: There is no view.
        """
        if not views:
            raise InputError("a registration of several views needs at least one X-ray")

        def register(start: RigidTransform) -> RegistrationResult:
            return self._register(views, Request(start, tracking=tracking, joint=True))

        if initial_pose is not None:
            return replace(register(initial_pose), start="pose")
        found = self.register(views[0].image, thorough=thorough)
        reference_from_camera = views[0].camera_from_reference.inverse()
        return register_from_first(found, reference_from_camera, register, self.displacement_mm, self.options.gate.distinct_mm)

    def displacement_mm(self, pose: RigidTransform, other: RigidTransform) -> float:
        """Mean displacement of the CT's points between two poses, mm, with depth counted at a fifth."""
        return float(self._metric.distances(RigidTransform.stack([pose]), other)[0])

    def _register(self, views: Sequence[CalibratedXray], request: Request) -> RegistrationResult:
        try:
            return retried_smaller(lambda: self._register_once(views, request), self._candidates.refiners.forget)
        except torch.OutOfMemoryError:
            return RegistrationResult(Outcome.NOT_CONVERGED, OUT_OF_MEMORY, self.method.name, device=self._device)

    def _register_once(self, views: Sequence[CalibratedXray], request: Request) -> RegistrationResult:
        clock, runs = Clock(), list[ViewRun]()
        with one_torch_thread():
            for view in views:
                runs.append(run := self._run(view, request, clock))
                if run.refined is None:
                    return self._result(run.outcome, request.named(run.reason, len(runs)), run, clock)
            assessor = Assessor(self._candidates, self.method, self.options.gate)
            if request.joint:
                assessed = assessor.several_views(runs, [view.camera_from_reference for view in views], clock)
            else:
                assessed = assessor.one_view(runs[0], request, clock)
            clock.lap("assess")
        assessment, number = assessed.assessment, assessed.view
        return replace(
            self._result(assessment.outcome, request.named(assessment.reason, number + 1), runs[number], clock),
            camera_from_patient=assessed.pose,
            similarity=assessment.evidence.similarity,
            alternatives=assessment.alternatives,
            covariance=assessment.covariance,
            n_renders=assessed.n_renders,
            scores=assessment.evidence.scores(),
            warnings=runs[number].warnings(assessed.pose if not request.joint else None),
        )

    def _run(self, view: CalibratedXray, request: Request, clock: Clock) -> ViewRun:
        """One view on its own: preprocess, find initial poses, search and refine every reading coarsely, finish the best."""
        prepared = preprocess_readings(view.image, self.options.preprocess)
        clock.lap("preprocess")
        run = ViewRun(prepared[0], request.initial_pose)
        if prepared[0].rejection is not None:
            return run.rejected(Outcome.REJECTED_IMAGE, prepared[0].rejection)
        given = [] if request.initial_pose is None else [view.camera_from_reference @ request.initial_pose]
        initial = [self._initial_poses(one, given, request, clock) for one in prepared]
        first = next((poses.searched[0] for poses in initial if poses.searched), None)
        if first is None and self._predictor is not None:
            return run.rejected(Outcome.NO_START, initial[0].reason)
        if first is not None:
            depth_mm = float(first.apply(self._readings.whole.model.pivot[None])[0, 2])
            if (reason := self._out_of_range(depth_mm)) is not None:
                return run.rejected(Outcome.REJECTED_POSE, reason)
        stages = self.method.tracking_stages() if request.tracking else self.method.stages
        search_views = not request.tracking and (first is None or bool(self.method.search.range))
        search = None if request.tracking else self.method.search
        certain = self.options.gate.certain_similarity

        def made(readings: tuple[str, ...], effort: Effort = QUICK) -> Iterator[Candidate]:
            return self._candidates.all(prepared, initial, replace(request, readings=readings), stages, search_views, effort)

        thoroughly = partial(made, effort=THOROUGH) if search_views and first is None and request.is_thorough else None
        try:
            likely = likeliest(made(request.readings), search, stages, certain, clock, thoroughly)
        except UnusableXrayError as error:
            return run.rejected(Outcome.REJECTED_IMAGE, str(error))
        best = likely.candidate
        run = replace(run, initial=best.known, is_searched=search_views, effort=best.effort, stands_out=likely.stands_out)
        if run.initial_pose is None:
            run = replace(run, initial_pose=view.camera_from_reference.inverse() @ best.initial.first)
        refined = best.solver.run_last(likely.poses, stages)
        clock.lap("refine")
        return replace(
            run, prepared=best.prepared, reading=best.reading, solver=best.solver, refined=refined, n_renders=likely.n_renders
        )

    def _initial_poses(
        self, prepared: Preprocessed, given: list[RigidTransform], request: Request, clock: Clock
    ) -> InitialPoses:
        initial = InitialPoses(given)
        if self._predictor is not None and not (request.joint or request.tracking):
            initial = initial.with_predictions(self._predictor, prepared.image, self.method.prediction)
            clock.lap("predict")
        return initial

    def _out_of_range(self, depth_mm: float) -> str | None:
        near, far = self.options.gate.depth_range_mm
        if near <= depth_mm <= far:
            return None
        return f"the initial pose puts the CT {depth_mm:.0f} mm in front of the source, outside {near:.0f} to {far:.0f} mm"

    def _result(self, outcome: Outcome, reason: str, run: ViewRun, clock: Clock) -> RegistrationResult:
        prepared = run.prepared
        return RegistrationResult(
            outcome,
            reason,
            self.method.name,
            initial_camera_from_patient=run.initial_pose,
            intensity=prepared.intensity.value,
            intensity_confidence=prepared.intensity_confidence if prepared.intensity_inferred else None,
            reading=run.reading,
            readings=self._readings.decisions(run.reading, prepared.without_instruments),
            stands_out=run.stands_out,
            elapsed_s=clock.total(),
            device=self._device,
            seconds=clock.laps,
        )

    def _load_predictor(self) -> Predictor | None:
        model = self.options.model
        return PosePredictor.load(model, self.ct, self._device) if model else None

    def _load_similarity(self, kind: str) -> SimilarityProvider:
        return SimilarityInference.load(to_mapping(self.options.learned)[kind], kind, self.ct, self._device)
