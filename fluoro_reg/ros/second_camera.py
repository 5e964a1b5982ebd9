"""Frames of two cameras that belong together: that of the first camera waits until its partner has come, or cannot come.

Where the cameras move, their poses at that moment are looked up on tf2.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.ros.conversions import NS_PER_S
from fluoro_reg.ros.frame_tree import Forbidden, FrameTree
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.processor import Frame

KEPT = 4  # frames of the second camera that may still have a partner


class FramePairing:
    """Pairs each frame of the first camera with the frame of the second that is nearest in time.

    Args:
        tolerance_s: The largest difference of their stamps.
        on_pair: Called with a frame of the first camera, with that of the second in `others`.
        on_alone: Called with a frame of the first camera that has no partner, and the reason.
    """

    def __init__(
        self, tolerance_s: float, on_pair: Callable[[Frame], object], on_alone: Callable[[Frame, str], object]
    ) -> None:
        self._tolerance_ns = round(tolerance_s * NS_PER_S)
        self._reason = f"the second camera has no image within {1000 * tolerance_s:g} ms; synchronise the cameras, or raise "
        self._reason += "second.tolerance"
        self._on_pair, self._on_alone = on_pair, on_alone
        self._waiting: Frame | None = None
        self._seconds: deque[Frame] = deque(maxlen=KEPT)

    def add_first(self, frame: Frame) -> None:
        """Take a frame of the first camera; one that still waits is given up."""
        waiting, self._waiting = self._waiting, frame
        if waiting is not None:
            self._on_alone(waiting, self._reason)
        self._match()

    def add_second(self, frame: Frame) -> None:
        """Take a frame of the second camera."""
        self._seconds.append(frame)
        self._match()

    def clear(self) -> None:
        """Forget all frames, because stamps begin anew."""
        self._waiting = None
        self._seconds.clear()

    def _match(self) -> None:
        first = self._waiting
        if first is None or not self._seconds:
            return
        nearest = min(self._seconds, key=lambda second: abs(second.stamp_ns - first.stamp_ns))
        if abs(nearest.stamp_ns - first.stamp_ns) <= self._tolerance_ns:
            self._waiting = None
            self._on_pair(replace(first, others=(nearest,)))
        elif self._seconds[-1].stamp_ns > first.stamp_ns:  # no later frame can be nearer
            self._waiting = None
            self._on_alone(first, self._reason)


def cameras_from_first(frame: Frame, tree: FrameTree, options: NodeOptions) -> list[RigidTransform]:
    """Return the pose of the first camera's frame in each other camera, every camera at the stamp of its own image.

    Raises:
        InputError: a camera's pose is unknown at its stamp, or rests on a registration of the patient.
    """
    first, anchor, timeout_s = (frame.frame_id, frame.stamp_ns), options.frames.anchor, options.tf.timeout
    above = Forbidden((options.frames.patient,), "publish the poses of the cameras and of frames.anchor without it")
    seconds = [(other.frame_id, other.stamp_ns) for other in frame.others]
    return [tree.lookup_between(second, first, anchor, timeout_s, above) for second in seconds]
