"""Decide by its stamp whether a frame may be registered: transforms must be published with strictly increasing stamps.

tf2 drops a transform whose stamp it has already seen, and a driver that repeats or reorders images would otherwise move the
patient back in time. In a looping recording, however, the stamps stay in the past. A few consecutive frames that increase among
themselves therefore start a new epoch, if they lie well before the newest frame, or if no newer one has arrived for as long (a
recording may be shorter than that). A single late frame never does.

A stamp in the future is refused before it counts: tf2 would interpolate towards it, and every true stamp would then be late.
"""

import enum
import time
from collections.abc import Callable

FRAMES_TO_RESTART = 3


class StampStatus(enum.Enum):
    """The outcome of the check; the values of rejected frames are the reasons that are published."""

    NEW = "new"
    NO_STAMP = "the image has no stamp (0); the driver must stamp it with the time of exposure"
    NO_CLOCK = (
        "use_sim_time is true, but no time has arrived on /clock; play the bag with --clock, or set use_sim_time to false"
    )
    FUTURE = (
        "the stamp lies further in the future than maximum_image_ahead; synchronise the clocks of the driver and this computer"
    )
    DUPLICATE = "the stamp equals that of the previous frame"
    LATE = "the stamp is older than that of an earlier frame"
    RESTARTED = "the stamps went back in time, as in a looping bag; tracking restarts"


class StampChecker:
    """Checks stamps in the order of arrival.

    Args:
        restart_after_s: how far, or how long, stamps must lie in the past, at minimum, to start a new epoch.
        maximum_ahead_s: how far in the future a stamp may lie.
        steady_s: the time in s on a clock that never jumps.
    """

    def __init__(self, restart_after_s: float, maximum_ahead_s: float, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._restart_after_s = restart_after_s
        self._maximum_ahead_ns = round(maximum_ahead_s * 1e9)
        self._steady_s = steady_s
        self._newest_ns, self._newest_arrival_s = 0, 0.0
        self._past: list[int] = []

    def check(self, stamp_ns: int, now_ns: int) -> StampStatus:
        """Return the status of the next stamp, given the present ROS time; only NEW and RESTARTED frames may be registered."""
        if stamp_ns <= 0:
            return StampStatus.NO_STAMP
        if now_ns <= 0:
            return StampStatus.NO_CLOCK
        if stamp_ns > now_ns + self._maximum_ahead_ns:
            return StampStatus.FUTURE
        if stamp_ns > self._newest_ns:
            return self._advance(stamp_ns, StampStatus.NEW)
        if stamp_ns == self._newest_ns:
            return StampStatus.DUPLICATE
        if not self._is_left_behind(stamp_ns):
            return StampStatus.LATE
        if self._past and stamp_ns <= self._past[-1]:
            self._past = []
        self._past.append(stamp_ns)
        if len(self._past) >= FRAMES_TO_RESTART:
            return self._advance(stamp_ns, StampStatus.RESTARTED)
        return StampStatus.LATE

    def restart(self) -> None:
        """Forget all stamps, because the clock itself went back in time."""
        self._newest_ns, self._past = 0, []

    def _is_left_behind(self, stamp_ns: int) -> bool:
        far_back = (self._newest_ns - stamp_ns) * 1e-9 >= self._restart_after_s
        return far_back or self._steady_s() - self._newest_arrival_s >= self._restart_after_s

    def _advance(self, stamp_ns: int, status: StampStatus) -> StampStatus:
        self._newest_ns, self._newest_arrival_s, self._past = stamp_ns, self._steady_s(), []
        return status
