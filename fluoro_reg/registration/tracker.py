"""`Tracker`: frame after frame, each from a prediction; the table of states is in `registration.tracking.states`.

    TRACKING   refine from the prediction; if that fails, take one coarse step first
    DEGRADED   the same and, if that fails too, search around the last accepted pose
    otherwise  search around the initial pose and, while LOST, around the last accepted pose in every other frame

Every pose is assessed by the same gates, and a tracked one must also fit the frames before it: it must lie near the last
accepted one (`gate.maximum_jump_mm`), and it may not leave the prediction while the similarity falls. A prediction is a place
to begin from. It is never a result.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.assessment.covariance import information_of_ros_covariance
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.registrar import Registrar, one_torch_thread
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.tracking.frame_check import REASONS, FrameCheck, FrameKind
from fluoro_reg.registration.tracking.frame_solver import Attempt, FrameSolver
from fluoro_reg.registration.tracking.motion import MotionModel, MotionState
from fluoro_reg.registration.tracking.states import FrameEvent, TrackerState, next_state
from fluoro_reg.xray.image import XrayImage

LOST_AFTER = 5  # frames in a row that are not accepted
SIMILARITY_DROP = 0.8  # of the last accepted frame's: below it, a pose that leaves the prediction is another explanation
LEAVES_PREDICTION_MM = 2.0  # however uncertain the prediction: an uncertain one must not let more through

_S, _E = TrackerState, FrameEvent


@dataclass(slots=True)
class Tracker:
    """The state of one stream of images. Do not use a tracker from two threads at once.

    Args:
        registrar: Registers each image.
        initial_pose: `camera_from_patient` to search around in the first image; None if the registrar predicts poses.
    """

    registrar: Registrar
    initial_pose: RigidTransform | None = None
    state: TrackerState = field(default=TrackerState.UNINITIALISED, init=False)
    _last: RegistrationResult | None = field(default=None, init=False)  # accepted
    _motion: MotionState | None = field(default=None, init=False)
    _unaccepted: int = field(default=0, init=False)  # frames in a row
    _tries: int = field(default=0, init=False)  # searches since the patient was lost
    _check: FrameCheck = field(init=False)
    _solver: FrameSolver = field(init=False)

    def __post_init__(self) -> None:
        self._check = FrameCheck(self.registrar.options.tracking.register_repeats)
        self._solver = FrameSolver(self.registrar)
        self._solver.warm_up()

    def update(self, xray: XrayImage, stamp_ns: int | None = None) -> RegistrationResult:
        """Register the next image.

        Args:
            xray: The X-ray.
            stamp_ns: When it was taken, ns; without stamps, images are taken to come at a constant rate.

        Returns:
            The result. Its pose may be published only if it is `accepted`.
        """
        with one_torch_thread():
            return self._update(xray, stamp_ns)

    def _update(self, xray: XrayImage, stamp_ns: int | None) -> RegistrationResult:
        kind = self._check.kind(xray)
        if kind is FrameKind.NEW:
            result = self._register(xray, stamp_ns)
        else:
            result = RegistrationResult(Outcome.REJECTED_IMAGE, REASONS[kind], self.registrar.method.name)
        if result.accepted:
            self._check.accept(xray)
            self._last, self._unaccepted, self._tries = result, 0, 0
        else:
            self._unaccepted += 1
        self.state = self._state_after(result)
        return replace(result, state=self.state.value, frame=kind.value)

    def reset(self) -> None:
        """Forget the last pose; the next image is searched around the initial pose."""
        self.state = next_state(self.state, _E.RESET)
        self._last, self._motion, self._unaccepted, self._tries = None, None, 0, 0
        self._check.reset()

    def change_options(self, options: RegistrationOptions) -> None:
        """Use other gates and another preprocessing from the next image on; all other options stay as they are."""
        self.registrar.options = replace(self.registrar.options, gate=options.gate, preprocess=options.preprocess)

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        """Replace the initial pose, and search around it in the next image."""
        self.initial_pose = camera_from_patient
        self.reset()

    def _state_after(self, result: RegistrationResult) -> TrackerState:
        if result.accepted:
            return next_state(self.state, _E.ACCEPTED)
        event = {Outcome.REJECTED_IMAGE: _E.UNUSABLE, Outcome.NO_START: _E.NO_START}.get(result.outcome, _E.REJECTED)
        state = next_state(self.state, event)
        if state is _S.DEGRADED and self._unaccepted >= LOST_AFTER:
            return next_state(state, _E.EXPIRED)
        return state

    def _register(self, xray: XrayImage, stamp_ns: int | None) -> RegistrationResult:
        if self.state in (_S.TRACKING, _S.DEGRADED) and self._motion is not None and self._last is not None:
            return self._tracked(xray, self._model.predict(self._motion, stamp_ns), self._last)
        result = self.registrar.register(xray, self._pose_to_search_around())
        if result.accepted:
            self._begin_motion(result, stamp_ns)
        return result

    def _pose_to_search_around(self) -> RigidTransform | None:
        """The initial pose, or the last accepted one in every other frame after the patient is lost."""
        if self.state is not _S.LOST or self._last is None:
            return self.initial_pose
        self._tries += 1
        return self._last.camera_from_patient if self._tries % 2 == 0 else self.initial_pose

    def _tracked(self, xray: XrayImage, predicted: MotionState, last: RegistrationResult) -> RegistrationResult:
        """From the prediction; with a coarse step; by a search, if the frame before was not accepted either."""
        result = self._from_prediction(xray, predicted, last, coarse=False)
        if _is_final(result):
            return result
        if self._solver.is_available:
            result = self._from_prediction(xray, predicted, last, coarse=True)
            if _is_final(result) or self.state is _S.TRACKING:
                return result
        found = self._consistent(self.registrar.register(xray, last.camera_from_patient), predicted, last)
        if found.accepted:
            self._begin_motion(found, predicted.stamp_ns)
        return found

    def _from_prediction(
        self, xray: XrayImage, predicted: MotionState, last: RegistrationResult, coarse: bool
    ) -> RegistrationResult:
        """One attempt. The motion is corrected if it is accepted."""
        filtered = self.registrar.options.tracking.pose == "filtered"
        attempt = None
        if self._solver.is_available:
            prior = predicted.prior if filtered else None
            attempt = self._solver.solve(xray, predicted.pose, last.reading, prior, coarse)
        if attempt is None:
            attempt = self._general(xray, predicted, last)
        result = self._consistent(attempt.result, predicted, last)
        if result.accepted and result.camera_from_patient is not None and attempt.information is not None:
            is_filtered = result.pose_source == "filtered"
            correct = self._model.correct_filtered if is_filtered else self._model.correct
            self._motion = correct(predicted, result.camera_from_patient, attempt.information)
        return result

    def _general(self, xray: XrayImage, predicted: MotionState, last: RegistrationResult) -> Attempt:
        """The last stages of the method from the prediction, for methods and devices without a fused pass."""
        result = self.registrar.register(xray, predicted.pose, tracking=True, reading=last.reading)
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

    def _begin_motion(self, result: RegistrationResult, stamp_ns: int | None) -> None:
        information = self._information(result)
        if result.camera_from_patient is None or information is None:
            self._motion = None
            return
        self._motion = MotionState.first(stamp_ns, result.camera_from_patient, torch.linalg.inv(information))

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


def _is_final(result: RegistrationResult) -> bool:
    """Whether no other way of finding the pose should be tried: it is accepted, or the image cannot show it."""
    return result.accepted or result.outcome is Outcome.REJECTED_IMAGE
