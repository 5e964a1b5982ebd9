"""`Searcher`: one search at a time, beside tracking or at once.

A search takes ten times as long as a tracked frame, and a thorough one far longer. A search is therefore thorough only after
one that has failed: the next image may show more. Beside tracking, a search runs in a thread of its own on half of the
processor's threads, with a registrar that has its own state. What it finds is about its own image, which is old by then: the
tracker must carry it to the newest image and judge it there.
"""

import concurrent.futures
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import RegistrationResult
from fluoro_reg.registration.tracking.motion import MotionState
from fluoro_reg.registration.view_starts import ANSWERS
from fluoro_reg.rendering.threads import StoppedError, in_background
from fluoro_reg.xray.image import XrayImage


@dataclass(frozen=True, slots=True)
class StampedImage:
    """An X-ray and when it was taken, ns; None without stamps."""

    xray: XrayImage
    stamp_ns: int | None


@dataclass(frozen=True, slots=True)
class Search:
    """An image to search, around a pose if there is one. What is found must fit the last accepted result, if there is one."""

    image: StampedImage
    around: RigidTransform | None
    predicted: MotionState | None = None
    last: RegistrationResult | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A search that has ended, and the result for its image."""

    search: Search
    result: RegistrationResult


@dataclass(frozen=True, slots=True)
class _Running:
    search: Search
    future: concurrent.futures.Future
    stop: threading.Event


@dataclass(slots=True)
class Searcher:
    """Searches images, one after the other. All methods are for one thread, which is that of the tracker.

    Args:
        registrar: The registrar of the tracker.
        background: Whether `begin` returns at once.
        on_end: Called by the thread of the search when a search has ended that was not discarded.

    Attributes:
        running_since: When the present search began, on the monotonic clock, s; None if none runs. Any thread may read it.
    """

    registrar: Registrar
    background: bool
    on_end: Callable[[], None] = lambda: None
    running_since: float | None = field(default=None, init=False)
    _own: Registrar = field(init=False)
    _thread: concurrent.futures.ThreadPoolExecutor | None = field(default=None, init=False)
    _running: _Running | None = field(default=None, init=False)
    _last: concurrent.futures.Future | None = field(default=None, init=False)
    _found: Found | None = field(default=None, init=False)
    _has_failed: bool = field(default=False, init=False)  # whether the last search has

    def __post_init__(self) -> None:
        self._own = self.registrar.beside()

    @property
    def is_running(self) -> bool:
        """Whether a search has begun whose result has not been taken or discarded yet."""
        return self._running is not None

    @property
    def is_busy(self) -> bool:
        """The same, or whether its result has been kept for another image."""
        return self._running is not None or self._found is not None

    def begin(self, search: Search) -> None:
        """Begin a search; without a background, end it, too."""
        if not self.background:
            result = self.registrar.register(search.image.xray, search.around, thorough=self._has_failed)
            self._found, self._has_failed = Found(search, result), result.outcome not in ANSWERS
            return
        if self._thread is None:
            self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="fluoro_reg-search")
        stop, self.running_since = threading.Event(), self.running_since or time.monotonic()
        self._last = self._thread.submit(self._run, search, self.registrar.options, self._has_failed, stop)
        self._running = _Running(search, self._last, stop)
        self._last.add_done_callback(lambda _: None if stop.is_set() else self.on_end())

    def take(self) -> Found | None:
        """Return what has been found, once; None while the search runs, and without one. Raise what the search has raised."""
        if self._running is not None and self._running.future.done():
            running, self._running = self._running, None
            self._found = Found(running.search, running.future.result())
            self._has_failed = self._found.result.outcome not in ANSWERS
        found, self._found = self._found, None
        return found

    def keep(self, found: Found) -> None:
        """Put back what has been taken, for an image that shows more."""
        self._found = found

    def discard(self) -> None:
        """Stop the search, and forget what it has found. Its thread may need a moment; the next search waits for that."""
        if self._running is not None:
            self._running.stop.set()
        self._running, self._found, self._has_failed = None, None, False

    def close(self, timeout_s: float) -> bool:
        """Discard the search and end its thread; return False if that takes longer. A later search starts another thread."""
        self.discard()
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None
        return self._last is None or not concurrent.futures.wait([self._last], timeout_s).not_done

    def _run(self, search: Search, options: RegistrationOptions, thorough: bool, stop: threading.Event) -> RegistrationResult:
        self.running_since = time.monotonic()
        try:
            with in_background(stop.is_set):
                if stop.is_set():  # before it could begin
                    raise StoppedError
                self._own.options = options
                return self._own.register(search.image.xray, search.around, thorough=thorough)
        finally:
            self.running_since = None
