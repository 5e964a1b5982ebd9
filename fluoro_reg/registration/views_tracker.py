"""`ViewsTracker`: frame after frame of several cameras of known relative geometry, such as a biplane C-arm.

The geometry is fixed or, where cameras move on their own, given with every frame.

One pose must fit all X-rays of a moment, and each of them can reject it. Where one X-ray hardly shows depth, the other does. A
frame is refined from the last accepted pose; after that has failed twice, the patient is searched as at the beginning: around
the initial pose or, without one, by a search in the first X-ray, which must then accept the pose alone, too. Both poses are in
the first camera and do not follow its motion: where it moves, it is as if the patient moved.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.tracker import LOST_AFTER, event_of
from fluoro_reg.registration.tracking.frame_check import REASONS, FrameCheck, FrameKind
from fluoro_reg.registration.tracking.states import FrameEvent, TrackerState, next_state
from fluoro_reg.rendering.threads import one_torch_thread
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.view import CalibratedXray


class ViewsTracker:
    """The state of the streams of several cameras. Do not use it from two threads at once. Searches are waited for.

    Args:
        registrar: Registers the X-rays.
        camera_from_first: For each camera after the first, the pose of the first camera's frame in its own; None for one that
            `update_views` is told with every frame.
        initial_pose: `first_camera_from_patient` to search around; None to search without one.

    Raises:
        InputError: The settings ask for filtered poses, which several views do not have.
    """

    searching_since: float | None = None  # no search runs beside `update`

    def __init__(
        self,
        registrar: Registrar,
        camera_from_first: Sequence[RigidTransform | None],
        initial_pose: RigidTransform | None = None,
    ) -> None:
        if registrar.options.tracking.pose == "filtered":
            raise InputError("tracking.pose is filtered, but poses of two cameras rest on the images alone; set it to image")
        self.registrar = registrar
        self.initial_pose = initial_pose
        self.state = TrackerState.UNINITIALISED
        self._cameras = (RigidTransform.identity(), *camera_from_first)
        self._checks = [FrameCheck(registrar.options.tracking.register_repeats) for _ in self._cameras]
        self._last: RigidTransform | None = None  # accepted
        self._unaccepted = 0  # frames in a row

    def update(self, xray: XrayImage, stamp_ns: int | None = None) -> RegistrationResult:
        """Reject an X-ray that comes alone."""
        return self.update_views([xray], stamp_ns)

    def update_views(
        self,
        xrays: Sequence[XrayImage],
        stamp_ns: int | None = None,
        camera_from_first: Sequence[RigidTransform] | None = None,
    ) -> RegistrationResult:
        """Register the X-rays of one moment, one of each camera, in the order of the cameras.

        Args:
            xrays: The X-rays.
            stamp_ns: When they were taken.
            camera_from_first: As in the constructor, at that moment; if None, the fixed geometry is used.

        Returns:
            The result, whose pose is that in the first camera. It may be published only if it is `accepted`.
        """
        cameras = self._cameras if camera_from_first is None else (RigidTransform.identity(), *camera_from_first)
        poses = [camera for camera in cameras if camera is not None]
        kind = FrameKind.NEW
        if len(xrays) != len(self._cameras):
            result = self._unusable(f"{len(self._cameras)} X-rays of one moment are needed, got {len(xrays)}")
        elif len(poses) != len(xrays):
            result = self._unusable(f"the poses of {len(xrays)} cameras are needed, got {len(poses)}")
        else:
            kinds = [check.kind(xray) for check, xray in zip(self._checks, xrays, strict=True)]
            number, kind = next(((n, k) for n, k in enumerate(kinds) if k is not FrameKind.NEW), (0, FrameKind.NEW))
            if kind is FrameKind.NEW:
                with one_torch_thread():
                    result = self._register([CalibratedXray(*pair) for pair in zip(xrays, poses, strict=True)])
            else:
                result = self._unusable(f"view {number + 1}: {REASONS[kind]}")
        return self._answered(xrays, result, kind)

    def reject(self, reason: str) -> RegistrationResult:
        """Reject a moment that cannot be registered; it counts as a frame that was not accepted."""
        return self._answered([], self._unusable(reason), FrameKind.NEW)

    def reset(self) -> None:
        """Forget the last pose; the next frame is searched."""
        self.state = next_state(self.state, FrameEvent.RESET)
        self._last, self._unaccepted = None, 0
        for check in self._checks:
            check.reset()

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        """Replace the initial pose, and search around it in the next frame."""
        self.initial_pose = camera_from_patient
        self.reset()

    def change_options(self, options: RegistrationOptions) -> None:
        """Use other gates and another preprocessing from the next frame on; all other options stay as they are."""
        self.registrar.options = replace(self.registrar.options, gate=options.gate, preprocess=options.preprocess)

    def late_result(self) -> RegistrationResult | None:
        """Return None: every frame is answered at once."""
        return None

    def when_search_ends(self, call: Callable[[], None]) -> None:
        """Do nothing: no search runs beside `update`."""

    def close(self, timeout_s: float = 30.0) -> bool:
        """Return True: there is nothing to end."""
        return True

    def _register(self, views: list[CalibratedXray]) -> RegistrationResult:
        if self._last is not None:
            tracked = self._near_last(self.registrar.register_views(views, self._last, tracking=True), self._last)
            if tracked.accepted or tracked.outcome is Outcome.REJECTED_IMAGE or self.state is TrackerState.TRACKING:
                return tracked
        result = self.registrar.register_views(views, self.initial_pose, thorough=self._unaccepted > 0)
        if self.state is TrackerState.DEGRADED and self._last is not None:
            return self._near_last(result, self._last)
        return result

    def _near_last(self, result: RegistrationResult, last: RigidTransform) -> RegistrationResult:
        """The result, rejected if the CT would have jumped since the last accepted frame."""
        if not result.accepted or result.camera_from_patient is None:
            return result
        jump = self.registrar.displacement_mm(result.camera_from_patient, last)
        limit = self.registrar.options.gate.maximum_jump_mm
        if jump <= limit:
            return result
        reason = f"the CT would have jumped {jump:.0f} mm since the last accepted frame, more than {limit:.0f} mm"
        return replace(result, outcome=Outcome.REJECTED_POSE, reason=reason)

    def _answered(self, xrays: Sequence[XrayImage], result: RegistrationResult, kind: FrameKind) -> RegistrationResult:
        """The result with the state after it."""
        self._unaccepted = 0 if result.accepted else self._unaccepted + 1
        if result.accepted:
            self._last = result.camera_from_patient
            for check, xray in zip(self._checks, xrays, strict=True):
                check.accept(xray)
        self.state = next_state(self.state, event_of(result))
        if self.state is TrackerState.DEGRADED and self._unaccepted >= LOST_AFTER:
            self.state = next_state(self.state, FrameEvent.EXPIRED)
        return replace(result, state=self.state.value, frame=kind.value)

    def _unusable(self, reason: str) -> RegistrationResult:
        return RegistrationResult(Outcome.REJECTED_IMAGE, reason, self.registrar.method.name)
