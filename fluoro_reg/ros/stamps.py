"""Decide by its stamp whether a frame may be registered: transforms must be published with strictly increasing stamps.

tf2 drops a transform whose stamp it has already seen, and a driver that repeats or reorders images would otherwise move the
patient back in time. In a looping recording, however, the stamps stay in the past. A few consecutive frames that lie well
before the newest one, and increase among themselves, therefore start a new epoch; a single late frame never does.
"""

import enum

FRAMES_TO_RESTART = 3


class StampStatus(enum.Enum):
    """The outcome of the check; the values of rejected frames are the reasons that are published."""

    NEW = "new"
    NO_STAMP = "the image has no stamp (0); the driver must stamp it with the time of exposure"
    DUPLICATE = "the stamp equals that of the previous frame"
    LATE = "the stamp is older than that of an earlier frame"
    RESTARTED = "the stamps went back in time, as in a looping bag; tracking restarts"


class StampChecker:
    """Checks stamps in the order of arrival.

    Args:
        restart_after_s: how far in the past stamps must lie, at minimum, to start a new epoch.
    """

    def __init__(self, restart_after_s: float) -> None:
        self._restart_after_ns = round(restart_after_s * 1e9)
        self._newest_ns = 0
        self._past: list[int] = []

    def check(self, stamp_ns: int) -> StampStatus:
        """Return the status of the next stamp; only NEW and RESTARTED frames may be registered."""
        if stamp_ns <= 0:
            return StampStatus.NO_STAMP
        if stamp_ns > self._newest_ns:
            return self._advance(stamp_ns, StampStatus.NEW)
        if stamp_ns == self._newest_ns:
            return StampStatus.DUPLICATE
        if self._newest_ns - stamp_ns < self._restart_after_ns:
            return StampStatus.LATE
        if self._past and stamp_ns <= self._past[-1]:
            self._past = []
        self._past.append(stamp_ns)
        if len(self._past) >= FRAMES_TO_RESTART:
            return self._advance(stamp_ns, StampStatus.RESTARTED)
        return StampStatus.LATE

    def _advance(self, stamp_ns: int, status: StampStatus) -> StampStatus:
        self._newest_ns, self._past = stamp_ns, []
        return status
