"""Process one frame: decode the messages, register the image, return the result. No topic is involved.

Only the worker's thread may call the tracker, so a requested reset or initial pose is stored here until the next frame. An
exception in the core is a defect, but it must neither stop the node nor publish a pose: the frame is rejected, and the
traceback is logged once per kind of exception.
"""

import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.fusion import FusedPose
from fluoro_reg.registration.memory import OUT_OF_MEMORY
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.views_tracker import ViewsTracker
from fluoro_reg.ros import conversions
from fluoro_reg.ros.frames import check_camera_frame
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.serialised import SerialisedImage
from fluoro_reg.xray.camera_info import CameraInfoRules, CameraMatrix
from fluoro_reg.xray.image import Intensity, XrayImage

RESET_DURING_REGISTRATION = "tracking was reset while this frame was being registered"


@runtime_checkable
class FrameTracker(Protocol):
    """The part of `Tracker`, `BodiesTracker` and `ViewsTracker` that the node uses."""

    def update(self, xray: XrayImage, stamp_ns: int | None = None) -> RegistrationResult: ...

    def reset(self) -> None: ...

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None: ...

    def change_options(self, options: RegistrationOptions) -> None: ...

    def late_result(self) -> RegistrationResult | None: ...

    def when_search_ends(self, call: Callable[[], None]) -> None: ...

    @property
    def searching_since(self) -> float | None: ...

    def close(self, timeout_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """An image message with its CameraInfo.

    `received_s` is the arrival on the monotonic clock, `transport_s` the time from the stamp until then on the clock of ROS.
    `others` are the frames of the same moment from further cameras.
    """

    stamp_ns: int
    frame_id: str
    image: SerialisedImage
    camera_info: CameraInfo
    received_s: float
    transport_s: float = 0.0
    others: tuple["Frame", ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessedFrame:
    """A frame with its result.

    `waited_s` is the time in the mailbox. `xray` is None if the messages could not be decoded. `transforms` are what goes on
    /tf: none for a rejected frame, and without a publisher there. `fused` is the pose in them, where poses are fused. `is_late`
    tells the second result of a frame.
    """

    frame: Frame
    result: RegistrationResult
    xray: XrayImage | None = None
    decode_s: float = 0.0
    waited_s: float = 0.0
    transforms: tuple[TransformStamped, ...] = ()
    fused: FusedPose | None = None
    is_late: bool = False

    @property
    def latency_s(self) -> float:
        """The time from the arrival of the pair until now."""
        return time.monotonic() - self.frame.received_s

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage: transport and waiting, decoding, and those of the registration."""
        before = {"transport": self.frame.transport_s, "wait": self.waited_s, "decode": self.decode_s}
        return {**before, "register": self.result.elapsed_s, **self.result.seconds}


@dataclass(frozen=True, slots=True)
class InitialPose:
    """An initial pose from `initialpose`; `frame_id` is the frame that it is given in."""

    camera_from_patient: RigidTransform
    frame_id: str


class FrameProcessor:
    """Registers frames, one at a time.

    `other_frames` are those of bodies other than the reference. `camera_from_first` returns, for cameras that move, the pose
    of the first camera's frame in each of the others at the moment of a frame; None for cameras of a fixed geometry.
    """

    def __init__(
        self,
        tracker: FrameTracker,
        method: str,
        options: NodeOptions,
        log: Callable[[str], object],
        other_frames: Collection[str] = (),
        camera_from_first: Callable[[Frame], list[RigidTransform]] | None = None,
    ) -> None:
        self._tracker = tracker
        self._method = method
        self._options = options
        self._other_frames = other_frames
        self._camera_from_first = camera_from_first
        self._intensity = Intensity(options.intensity)
        self._rules = CameraInfoRules(CameraMatrix(options.camera_matrix), options.undistort)
        self._log = log
        self._lock = threading.Lock()
        self._reset_requested = False
        self._requested_initial_pose: InitialPose | None = None
        self._requested_options: RegistrationOptions | None = None
        self._logged_kinds: set[str] = set()
        self._logged_warnings: set[str] = set()
        self._last: ProcessedFrame | None = None

    def request_reset(self) -> None:
        """Forget the last pose before the next frame; a frame being processed is no longer accepted."""
        with self._lock:
            self._reset_requested = True

    def request_initial_pose(self, initial_pose: InitialPose) -> None:
        """Begin the next frame at this pose, provided that it is given in the camera's frame."""
        with self._lock:
            self._requested_initial_pose, self._reset_requested = initial_pose, True

    def request_options(self, options: RegistrationOptions) -> None:
        """Use other thresholds from the next frame on."""
        with self._lock:
            self._requested_options = options

    def discard_initial_pose(self) -> None:
        """Drop a requested initial pose that no frame has used yet."""
        with self._lock:
            self._requested_initial_pose = None

    def process(self, frame: Frame) -> ProcessedFrame:
        """Register a frame; every failure becomes a rejection, so this never raises."""
        begin = time.monotonic()
        xray, decode_s = None, 0.0

        def register() -> RegistrationResult:
            nonlocal xray, decode_s
            check_camera_frame(frame.frame_id, self._options, self._other_frames)
            self._apply_requests(frame)
            xray, *others = (self._decoded(one) for one in (frame, *frame.others))
            decode_s = time.monotonic() - begin
            if isinstance(self._tracker, ViewsTracker):
                return self._update_views(self._tracker, frame, [xray, *others])
            return self._tracker.update(xray, frame.stamp_ns)

        self._last = None
        result = self._result_of(register)
        assert result is not None
        self._last = ProcessedFrame(frame, result, xray, decode_s, begin - frame.received_s)
        return self._last

    def process_late(self) -> ProcessedFrame | None:
        """Return the last frame with a second result, if a search has ended that it did not wait for; never raises."""
        last = self._last
        if last is None or not last.result.searching or self._reset_requested:
            return None
        result = self._result_of(self._tracker.late_result)
        if result is None:
            return None
        self._last = replace(last, result=result, is_late=True)
        return self._last

    def close(self, timeout_s: float) -> bool:
        """End a search of the tracker; return False if that takes longer."""
        self._last = None
        return self._tracker.close(timeout_s)

    def _result_of(self, register: Callable[[], RegistrationResult | None]) -> RegistrationResult | None:
        try:
            result = register()
        except InputError as error:
            return self.rejection(str(error))
        except (torch.OutOfMemoryError, MemoryError):
            return self.rejection(OUT_OF_MEMORY, Outcome.NOT_CONVERGED)
        except Exception as error:
            return self._reject_for_exception(error)
        if result is not None and result.accepted and self._reset_requested:
            return self.rejection(RESET_DURING_REGISTRATION, Outcome.REJECTED_POSE)
        return result

    def rejection(self, reason: str, outcome: Outcome = Outcome.REJECTED_IMAGE) -> RegistrationResult:
        """Return the result of a frame without a pose."""
        return RegistrationResult(outcome, reason, self._method)

    def _update_views(self, tracker: ViewsTracker, frame: Frame, xrays: list[XrayImage]) -> RegistrationResult:
        try:
            cameras = None if self._camera_from_first is None else self._camera_from_first(frame)
        except InputError as error:
            return tracker.reject(str(error))
        return tracker.update_views(xrays, frame.stamp_ns, cameras)

    def _decoded(self, frame: Frame) -> XrayImage:
        xray = conversions.xray_from_messages(frame.image.message(), frame.camera_info, self._intensity, self._rules)
        self._log_once(xray.warnings)
        return xray

    def _apply_requests(self, frame: Frame) -> None:
        with self._lock:
            reset, initial_pose, options = self._reset_requested, self._requested_initial_pose, self._requested_options
            self._reset_requested, self._requested_initial_pose, self._requested_options = False, None, None
        if options is not None:
            self._tracker.change_options(options)
        if reset:
            self._tracker.reset()
        if initial_pose is None:
            return
        if initial_pose.frame_id in ("", frame.frame_id):
            self._tracker.set_initial_pose(initial_pose.camera_from_patient)
        else:
            self._log(f"initialpose is ignored: its frame_id is '{initial_pose.frame_id}', the camera's is '{frame.frame_id}'")

    def _log_once(self, warnings: tuple[str, ...]) -> None:
        """Log what the messages state wrongly with the first of many equal images."""
        for warning in warnings:
            if warning not in self._logged_warnings:
                self._logged_warnings.add(warning)
                self._log(warning)

    def _reject_for_exception(self, error: Exception) -> RegistrationResult:
        kind = f"{type(error).__name__} in {traceback.extract_tb(error.__traceback__)[-1].name}"
        if kind not in self._logged_kinds:
            self._logged_kinds.add(kind)
            # Without the exception's message, which may quote a path or a header.
            trace = "".join(traceback.format_tb(error.__traceback__))
            self._log(f"a frame was rejected because of an internal error ({kind}), logged once:\n{trace}")
        return self.rejection(f"internal error ({kind}); see the log of the node", Outcome.NOT_CONVERGED)
