"""Which stamps may go on: transforms must be published with strictly increasing stamps.

tf2 drops a transform whose stamp it has seen, and a driver that repeats or reorders images would otherwise move a patient back
in time. A recording that loops is different: its stamps stay in the past. So a few frames in a row that lie well before
the newest one, and increase among themselves, begin a new epoch; a single straggler never does.
"""

import enum

FRAMES_TO_RESTART = 3


class StampVerdict(enum.Enum):
    """What to do with a frame."""

    NEW = "new"
    NO_STAMP = "the image has no stamp (0); the driver must stamp it with the time of exposure"
    DUPLICATE = "the stamp repeats that of the frame before"
    LATE = "the stamp is older than that of the frame before"
    RESTARTED = "time went back, as when a bag loops; tracking begins anew"


class StampOrder:
    """Judges stamps in the order of arrival. `restart_after_s` is how far back a new epoch lies at least."""

    def __init__(self, restart_after_s: float) -> None:
        self._restart_after_ns = round(restart_after_s * 1e9)
        self._newest_ns = 0
        self._past: list[int] = []

    def judge(self, stamp_ns: int) -> StampVerdict:
        """NEW and RESTARTED frames may be registered, the others may not."""
        if stamp_ns <= 0:
            return StampVerdict.NO_STAMP
        if stamp_ns > self._newest_ns:
            return self._advance(stamp_ns, StampVerdict.NEW)
        if stamp_ns == self._newest_ns:
            return StampVerdict.DUPLICATE
        if self._newest_ns - stamp_ns < self._restart_after_ns:
            return StampVerdict.LATE
        if self._past and stamp_ns <= self._past[-1]:
            self._past = []
        self._past.append(stamp_ns)
        if len(self._past) >= FRAMES_TO_RESTART:
            return self._advance(stamp_ns, StampVerdict.RESTARTED)
        return StampVerdict.LATE

    def _advance(self, stamp_ns: int, verdict: StampVerdict) -> StampVerdict:
        self._newest_ns, self._past = stamp_ns, []
        return verdict
