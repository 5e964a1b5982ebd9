"""What the worker does with one frame: decode, register, answer. It touches no topic, so it is tested without one.

Only the worker's thread may call the tracker, so a reset or a start from outside waits here until the next frame begins. An
exception in the core is a defect, but never a reason to stop watching the next image nor to publish: the frame is rejected,
and the traceback goes to the log once per kind.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.ros import conversions
from fluoro_reg.xray.image import Intensity, XrayImage

RESET_MEANWHILE = "tracking was reset while this frame was registered"


@runtime_checkable
class FrameTracker(Protocol):
    """What is needed of `fluoro_reg.registration.Tracker`."""

    def update(self, image: XrayImage) -> RegistrationResult: ...

    def reset(self) -> None: ...

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """An image with its CameraInfo as they came; `received_s` is a monotonic clock's."""

    stamp_ns: int
    frame_id: str
    image: Image | CompressedImage
    camera_info: CameraInfo
    received_s: float


@dataclass(frozen=True, slots=True)
class Processed:
    """A frame with its answer; `xray` is None when the messages could not be read."""

    frame: Frame
    result: RegistrationResult
    xray: XrayImage | None = None
    decode_s: float = 0.0

    @property
    def latency_s(self) -> float:
        """From the arrival of the pair until now."""
        return time.monotonic() - self.frame.received_s


@dataclass(frozen=True, slots=True)
class Start:
    """A start from outside; `frame_id` is the frame it is given in."""

    camera_from_patient: RigidTransform
    frame_id: str


class FrameProcessor:
    """Frames to answers, one at a time."""

    def __init__(self, tracker: FrameTracker, method: str, intensity: Intensity, log: Callable[[str], object]) -> None:
        self._tracker = tracker
        self._method = method
        self._intensity = intensity
        self._log = log
        self._lock = threading.Lock()
        self._reset_wanted = False
        self._start_wanted: Start | None = None
        self._kinds_logged: set[str] = set()

    def request_reset(self) -> None:
        """Forget the last pose before the next frame; the frame in work is not accepted any more."""
        with self._lock:
            self._reset_wanted = True

    def request_initial_pose(self, start: Start) -> None:
        """Start the next frame from this pose, if its frame turns out to be the camera's."""
        with self._lock:
            self._start_wanted, self._reset_wanted = start, True

    def discard_initial_pose(self) -> None:
        """A start that no frame has used yet is not kept for another day."""
        with self._lock:
            self._start_wanted = None

    def process(self, frame: Frame) -> Processed:
        """Never raises."""
        begin = time.monotonic()
        xray, decode_s = None, 0.0
        try:
            if not frame.frame_id:
                raise InputError("the image has no frame_id; the driver must set it, or the parameter frames.camera")
            self._obey_requests(frame)
            xray = conversions.xray_from_messages(frame.image, frame.camera_info, self._intensity)
            decode_s = time.monotonic() - begin
            result = self._tracker.update(xray)
            if result.accepted and self._reset_wanted:
                result = self.rejection(RESET_MEANWHILE, Outcome.REJECTED_POSE)
        except InputError as error:
            result = self.rejection(str(error))
        except Exception as error:
            result = self._defect(error)
        return Processed(frame, result, xray, decode_s)

    def rejection(self, reason: str, outcome: Outcome = Outcome.REJECTED_IMAGE) -> RegistrationResult:
        """The answer to a frame that gets no pose."""
        return RegistrationResult(outcome, reason, self._method)

    def _obey_requests(self, frame: Frame) -> None:
        with self._lock:
            reset, start = self._reset_wanted, self._start_wanted
            self._reset_wanted, self._start_wanted = False, None
        if reset:
            self._tracker.reset()
        if start is None:
            return
        if start.frame_id in ("", frame.frame_id):
            self._tracker.set_initial_pose(start.camera_from_patient)
        else:
            self._log(
                f"initialpose is ignored: it is given in frame '{start.frame_id}', but the camera's frame is '{frame.frame_id}'"
            )

    def _defect(self, error: Exception) -> RegistrationResult:
        kind = f"{type(error).__name__} in {traceback.extract_tb(error.__traceback__)[-1].name}"
        if kind not in self._kinds_logged:
            self._kinds_logged.add(kind)
            where = "".join(traceback.format_tb(error.__traceback__))  # without the message, which may quote a path or a header
            self._log(f"a frame was rejected because of a defect ({kind}), reported once:\n{where}")
        return self.rejection(f"internal error ({kind}); the node's log has the details", Outcome.NOT_CONVERGED)
