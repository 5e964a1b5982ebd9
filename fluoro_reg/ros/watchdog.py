"""A registration that hangs cannot be stopped: it is ended together with the process.

A thread cannot be killed, and a process that goes on with one that hangs would hold its memory and its GPU for ever. There are
two ways to hang. If the interpreter still runs, the executor notices the overdue frame, says so on every topic and ends the
process in order. If native code holds the interpreter, no Python code can run; then faulthandler, which needs no interpreter,
prints the stacks and ends the process. In both cases consumers notice: `~/valid` becomes false, or its publisher dies.
"""

import faulthandler
import time

GRACE_S = 5.0  # for the orderly way, before the other one


class HangError(RuntimeError):
    """A registration does not end. The message is one sentence."""


class Watchdog:
    """Times the computation of one frame at a time.

    Args:
        timeout_s: a frame that takes longer hangs.
        ends_process: whether faulthandler may end the process.
    """

    def __init__(self, timeout_s: float, ends_process: bool) -> None:
        self._timeout_s = timeout_s
        self._ends_process = ends_process
        self._begin_s: float | None = None

    def begin(self) -> None:
        """Begin a frame."""
        self._begin_s = time.monotonic()
        if self._ends_process:
            faulthandler.dump_traceback_later(self._timeout_s + GRACE_S, exit=True)

    def end(self) -> None:
        """End the frame."""
        self._begin_s = None
        if self._ends_process:
            faulthandler.cancel_dump_traceback_later()

    def overdue(self) -> str:
        """Return what to say about a frame that hangs; empty if there is none."""
        begin_s = self._begin_s
        if begin_s is None or time.monotonic() - begin_s < self._timeout_s:
            return ""
        return f"a registration has not ended within computation_timeout = {self._timeout_s:g} s; the node ends itself"
