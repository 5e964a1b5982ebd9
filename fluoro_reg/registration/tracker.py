"""`Tracker`: frame after frame, each from a prediction; the table of states is in `registration.tracking.states`.

    TRACKING   refine from the prediction; if that fails, take one coarse step first
    DEGRADED   the same and, if that fails too, search around the last accepted pose
    LOST       the coarse step and, if that fails, search around the initial pose and the last accepted one in turn
    otherwise  search around the initial pose

A search takes longer than a frame. With `background` it runs beside tracking: frames are answered at once, and what it finds
is carried to the newest image, as if that were the frame after the one that was searched.

Every pose is assessed by the same gates, and a tracked one must also fit the frames before it: it must lie near the last
accepted one (`gate.maximum_jump_mm`), and it may not leave the prediction while the similarity falls. A prediction is a place
to begin from, and so is what was found in an older image. Neither is ever a result.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.assessment.covariance import information_of_ros_covariance
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.tracking.frame_check import REASONS, FrameCheck, FrameKind
from fluoro_reg.registration.tracking.frame_solver import Attempt, FrameSolver
from fluoro_reg.registration.tracking.motion import MotionModel, MotionState
from fluoro_reg.registration.tracking.searcher import Found, Search, Searcher, StampedImage
from fluoro_reg.registration.tracking.states import FrameEvent, TrackerState, next_state
from fluoro_reg.rendering.threads import one_torch_thread
from fluoro_reg.xray.image import XrayImage

LOST_AFTER = 5  # frames in a row that are not accepted
SIMILARITY_DROP = 0.8  # of the last accepted frame's: below it, a pose that leaves the prediction is another explanation
LEAVES_PREDICTION_MM = 2.0  # however uncertain the prediction: an uncertain one must not let more through
SEARCH_RUNS = "a search for the patient is running"

_S, _E = TrackerState, FrameEvent
_EVENTS = {Outcome.REJECTED_IMAGE: _E.UNUSABLE, Outcome.NO_START: _E.NO_START, Outcome.SEARCHING: _E.SEARCHING}


@dataclass(slots=True)
class Tracker:
    """The state of one stream of images. Do not use a tracker from two threads at once.

    Args:
        registrar: Registers each image.
        initial_pose: `camera_from_patient` to search around in the first image; None if the registrar predicts poses.
        background: Whether searches run beside tracking, for live images: `update` then never waits for a search, and what it
            answers depends on time. Otherwise the same images give the same answers.
    """

    registrar: Registrar
    initial_pose: RigidTransform | None = None
    background: bool = False
    state: TrackerState = field(default=TrackerState.UNINITIALISED, init=False)
    _last: RegistrationResult | None = field(default=None, init=False)  # accepted
    _motion: MotionState | None = field(default=None, init=False)
    _unaccepted: int = field(default=0, init=False)  # frames in a row
    _tries: int = field(default=0, init=False)  # searches since the patient was lost
    _unanswered: StampedImage | None = field(default=None, init=False)  # the last image, if a search may still explain it
    _check: FrameCheck = field(init=False)
    _solver: FrameSolver = field(init=False)
    _searcher: Searcher = field(init=False)

    def __post_init__(self) -> None:
        self._check = FrameCheck(self.registrar.options.tracking.register_repeats)
        self._solver = FrameSolver(self.registrar)
        self._solver.warm_up()
        self._searcher = Searcher(self.registrar, self.background)

    def update(self, xray: XrayImage, stamp_ns: int | None = None) -> RegistrationResult:
        """Register the next image.

        Args:
            xray: The X-ray.
            stamp_ns: When it was taken, ns; without stamps, images are taken to come at a constant rate.

        Returns:
            The result. Its pose may be published only if it is `accepted`.

        Raises:
            Exception: What a search in the background has raised since the last image.
        """
        image, self._unanswered = StampedImage(xray, stamp_ns), None
        with one_torch_thread():
            kind = self._check.kind(xray)
            if kind is FrameKind.NEW:
                result = self._register(image)
            else:
                result = RegistrationResult(Outcome.REJECTED_IMAGE, REASONS[kind], self.registrar.method.name)
        self._unaccepted += 1  # unless it is accepted
        if kind is FrameKind.NEW and self._searcher.is_running:
            self._unanswered = image
        return self._answered(xray, result, kind)

    def late_result(self) -> RegistrationResult | None:
        """Return the second answer to the last image, if a search has ended since that `update` did not wait for.

        For results that are `searching`, while no further image has come; `when_search_ends` tells when. Otherwise `update`
        carries what was found to the next image.
        """
        image = self._unanswered
        if image is None or (found := self._searcher.take()) is None:
            return None
        with one_torch_thread():
            result = self._handed_over(found, image)
            if not _is_final(result) and found.search.image is not image:
                self._searcher.begin(self._search(image, self._prediction(image)))
                return None
        self._unanswered = None
        return self._answered(image.xray, result, FrameKind.NEW)

    def when_search_ends(self, call: Callable[[], None]) -> None:
        """Call this whenever a search has ended in the background. It is called by another thread, and must return at once."""
        self._searcher.on_end = call

    @property
    def searching_since(self) -> float | None:
        """When the search in the background began, on the monotonic clock, s; None if none runs."""
        return self._searcher.running_since

    def close(self, timeout_s: float = 30.0) -> bool:
        """Discard a search and end its thread; return False if that takes longer. The tracker can be used again."""
        return self._searcher.close(timeout_s)

    def reset(self) -> None:
        """Forget the last pose, and a search; the next image is searched around the initial pose."""
        self.state = next_state(self.state, _E.RESET)
        self._last, self._motion, self._unaccepted, self._tries, self._unanswered = None, None, 0, 0, None
        self._check.reset()
        self._searcher.discard()

    def change_options(self, options: RegistrationOptions) -> None:
        """Use other gates and another preprocessing from the next image on; all other options stay as they are."""
        self.registrar.options = replace(self.registrar.options, gate=options.gate, preprocess=options.preprocess)

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        """Replace the initial pose, and search around it in the next image."""
        self.initial_pose = camera_from_patient
        self.reset()

    def _answered(self, xray: XrayImage, result: RegistrationResult, kind: FrameKind) -> RegistrationResult:
        """The result with the state after it."""
        if result.accepted:
            self._check.accept(xray)
            self._last, self._unaccepted, self._tries, self._unanswered = result, 0, 0, None
            self._searcher.discard()
        self.state = self._state_after(result)
        return replace(result, state=self.state.value, frame=kind.value, searching=self._unanswered is not None)

    def _state_after(self, result: RegistrationResult) -> TrackerState:
        state = next_state(self.state, event_of(result))
        if state is _S.DEGRADED and self._unaccepted >= LOST_AFTER:
            return next_state(state, _E.EXPIRED)
        return state

    def _register(self, image: StampedImage) -> RegistrationResult:
        """From what a search has found; from the prediction; by a search, unless this is the first frame that fails."""
        searched, tracked = None, None
        if (found := self._searcher.take()) is not None:
            searched = self._handed_over(found, image)
            if _is_final(searched):
                return searched
        predicted = self._prediction(image)
        if predicted is not None and self._last is not None:
            tracked = self._tracked(image, predicted, self._last)
            if _is_final(tracked) or (self.state is _S.TRACKING and self._solver.is_available):
                return tracked
        if not self._searcher.is_busy:
            self._searcher.begin(self._search(image, predicted))
        if (found := self._searcher.take()) is not None:
            return self._handed_over(found, image)
        if tracked is not None:
            return replace(tracked, reason=f"{tracked.reason}; {SEARCH_RUNS}")
        reason = SEARCH_RUNS if searched is None else f"{SEARCH_RUNS}; the one before: {searched.reason}"
        return RegistrationResult(Outcome.SEARCHING, reason, self.registrar.method.name)

    def _search(self, image: StampedImage, predicted: MotionState | None) -> Search:
        """Around the last accepted pose, which the result must fit, until the patient is lost; then not always, and freely."""
        if self.state is _S.DEGRADED and predicted is not None and self._last is not None:
            return Search(image, self._last.camera_from_patient, predicted, self._last)
        if self.state is not _S.LOST or self._last is None:
            return Search(image, self.initial_pose)
        self._tries += 1
        return Search(image, self._last.camera_from_patient if self._tries % 2 == 0 else self.initial_pose)

    def _handed_over(self, found: Found, image: StampedImage) -> RegistrationResult:
        """The result of a search, carried to a newer image unless it is about this one."""
        search, result = found.search, found.result
        if search.predicted is not None and search.last is not None:
            result = self._consistent(result, search.predicted, search.last)
        motion = self._first_motion(result, search.image.stamp_ns)
        if search.image is image:
            if result.accepted:
                self._motion = motion
            return result
        if not result.accepted or motion is None:
            reason = "the pose has no covariance" if result.accepted else result.reason
            return RegistrationResult(Outcome.REJECTED_POSE, f"in an earlier image, {reason}", self.registrar.method.name)
        carried = self._from_prediction(image, self._model.predict(motion, image.stamp_ns), result, coarse=True)
        if carried.outcome is Outcome.REJECTED_IMAGE:
            self._searcher.keep(found)
        return carried

    def _tracked(self, image: StampedImage, predicted: MotionState, last: RegistrationResult) -> RegistrationResult:
        """From the prediction and, if that fails or was not followed for long, with a coarse step."""
        if self.state is _S.LOST or not self._solver.is_available:
            return self._from_prediction(image, predicted, last, coarse=True)
        result = self._from_prediction(image, predicted, last, coarse=False)
        return result if _is_final(result) else self._from_prediction(image, predicted, last, coarse=True)

    def _from_prediction(
        self, image: StampedImage, predicted: MotionState, last: RegistrationResult, coarse: bool
    ) -> RegistrationResult:
        """One attempt. The motion is corrected if it is accepted."""
        filtered = self.registrar.options.tracking.pose == "filtered"
        attempt = None
        if self._solver.is_available:
            prior = predicted.prior if filtered else None
            attempt = self._solver.solve(image.xray, predicted.pose, last, prior, coarse)
        if attempt is None:
            attempt = self._general(image.xray, predicted, last)
        result = self._consistent(attempt.result, predicted, last)
        if not result.accepted or result.camera_from_patient is None:
            return result
        is_filtered = result.pose_source == "filtered"
        correct = self._model.correct_filtered if is_filtered else self._model.correct
        information = attempt.information
        self._motion = predicted if information is None else correct(predicted, result.camera_from_patient, information)
        return result

    def _general(self, xray: XrayImage, predicted: MotionState, last: RegistrationResult) -> Attempt:
        """The last stages of the method from the prediction, for methods without a fused pass."""
        result = self.registrar.register(
            xray, predicted.pose, tracking=True, reading=last.reading, decoy_similarity=last.scores.get("decoy_similarity")
        )
        return Attempt(result, self._information(result))

    def _consistent(self, result: RegistrationResult, predicted: MotionState, last: RegistrationResult) -> RegistrationResult:
        """The result, rejected if it does not fit the frames before it."""
        if not result.accepted or result.camera_from_patient is None or last.camera_from_patient is None:
            return result
        jump = self.registrar.displacement_mm(result.camera_from_patient, last.camera_from_patient)
        limit = self.registrar.options.gate.maximum_jump_mm
        if jump > limit:
            reason = f"the CT would have jumped {jump:.0f} mm since the last accepted frame, more than {limit:.0f} mm"
            return replace(result, outcome=Outcome.REJECTED_POSE, reason=reason)
        away = self.registrar.displacement_mm(result.camera_from_patient, predicted.pose)
        before, now = last.similarity or 0.0, result.similarity or 0.0
        if now < SIMILARITY_DROP * before and away > LEAVES_PREDICTION_MM:
            reason = f"the similarity fell from {before:.2f} to {now:.2f} at a pose {away:.0f} mm from the predicted one"
            return replace(result, outcome=Outcome.REJECTED_POSE, reason=reason)
        return result

    def _prediction(self, image: StampedImage) -> MotionState | None:
        return None if self._motion is None else self._model.predict(self._motion, image.stamp_ns)

    def _first_motion(self, result: RegistrationResult, stamp_ns: int | None) -> MotionState | None:
        """The motion after a frame that was searched; None if its uncertainty is not known."""
        information = self._information(result)
        if result.camera_from_patient is None or information is None:
            return None
        return MotionState.first(stamp_ns, result.camera_from_patient, torch.linalg.inv(information))

    def _information(self, result: RegistrationResult) -> Float[Tensor, "6 6"] | None:
        if result.covariance is None or result.camera_from_patient is None:
            return None
        return information_of_ros_covariance(result.covariance, result.camera_from_patient, self._pivot)

    @property
    def _pivot(self) -> Float[Tensor, "3"]:
        return self.registrar.readings.whole.model.pivot

    @property
    def _model(self) -> MotionModel:
        options = self.registrar.options.tracking
        return MotionModel(
            self._pivot, (options.acceleration_mm_s2, float(torch.deg2rad(torch.tensor(options.acceleration_deg_s2))))
        )


def event_of(result: RegistrationResult) -> FrameEvent:
    """What became of a frame."""
    return _E.ACCEPTED if result.accepted else _EVENTS.get(result.outcome, _E.REJECTED)


def _is_final(result: RegistrationResult) -> bool:
    """Whether no other way of finding the pose should be tried: it is accepted, or the image cannot show it."""
    return result.accepted or result.outcome is Outcome.REJECTED_IMAGE
