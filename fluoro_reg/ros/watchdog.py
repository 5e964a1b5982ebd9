"""A registration that hangs cannot be stopped: it is ended together with the process.

A thread cannot be killed, and a process that goes on with one that hangs would hold its memory and its GPU for ever. There are
two ways to hang. If the interpreter still runs, the executor notices the overdue frame, says so on every topic and ends the
process in order. If native code holds the interpreter, no Python code can run; then faulthandler, which needs no interpreter,
prints the stacks and ends the process. In both cases consumers notice: `~/valid` becomes false, or its publisher dies.
"""

import faulthandler
import threading
import time
from collections.abc import Callable

GRACE_S = 5.0  # for the orderly way, before the other one


class HangError(RuntimeError):
    """A registration does not end. The message is one sentence."""


class Watchdog:
    """Times the computation of one frame at a time, and a search beside it.

    Args:
        timeout_s: a frame or a search that takes longer hangs.
        ends_process: whether faulthandler may end the process.
        searching_since: when the running search began, on the monotonic clock, s; None if none runs.
    """

    def __init__(
        self, timeout_s: float, ends_process: bool, searching_since: Callable[[], float | None] = lambda: None
    ) -> None:
        self._timeout_s = timeout_s
        self._ends_process = ends_process
        self._searching_since = searching_since
        self._begin_s: float | None = None
        self._armed_for: float | None = None  # the beginning that faulthandler counts from
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Begin a frame."""
        self._begin_s = time.monotonic()
        self._arm()

    def end(self) -> None:
        """End the frame."""
        self._begin_s = None
        self._arm()

    def overdue(self) -> str:
        """Return what to say about a frame or a search that hangs; empty if there is none. To be called all the time."""
        self._arm()
        begin_s = self._earliest()
        if begin_s is None or time.monotonic() - begin_s < self._timeout_s:
            return ""
        return f"a registration has not ended within computation_timeout = {self._timeout_s:g} s; the node ends itself"

    def _earliest(self) -> float | None:
        return min((begin for begin in (self._begin_s, self._searching_since()) if begin is not None), default=None)

    def _arm(self) -> None:
        """Let faulthandler end the process in time, unless this is called again."""
        if not self._ends_process:
            return
        with self._lock:
            begin_s = self._earliest()
            if begin_s == self._armed_for:
                return
            self._armed_for = begin_s
            if begin_s is None:
                faulthandler.cancel_dump_traceback_later()
            else:
                left_s = begin_s + self._timeout_s + GRACE_S - time.monotonic()
                faulthandler.dump_traceback_later(max(left_s, 0.001), exit=True)
