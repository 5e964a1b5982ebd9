"""Counters of the node, written by the executor's and the worker's thread and read by the diagnostics."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fluoro_reg.registration.result import RegistrationResult

LATENCY_WINDOW = 200  # frames
PERCENTILES_PERIOD_S = 1.0


@dataclass(slots=True)
class Statistics:
    """Counters since `configure`; `seconds` holds those of the last `LATENCY_WINDOW` frames, by stage."""

    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)
    state: str = ""
    seconds: dict[str, deque[float]] = field(default_factory=dict)
    last_accepted_s: float | None = None
    last_reason: str = ""
    last_accepted: bool = False
    _percentiles: dict[str, dict[str, float]] = field(default_factory=dict)
    _percentiles_at_s: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        """Add one to the counter `name`."""
        with self._lock:
            self.counts[name] += 1

    def record_result(self, result: RegistrationResult, seconds: Mapping[str, float], is_late: bool = False) -> None:
        """Count the result of one frame, with its seconds by stage; a late one is the second of its frame."""
        with self._lock:
            self.state = result.state
            if result.frame and not is_late:
                self.frames[result.frame] += 1
            for stage, value in seconds.items():
                self._window(stage).append(value)
            self.outcomes["accepted" if result.accepted else result.outcome.value] += 1
            self.last_reason, self.last_accepted = result.reason, result.accepted
            if result.accepted:
                self.last_accepted_s = time.monotonic()

    def seconds_since_accepted(self) -> float:
        """Return the time since the last accepted frame in s; infinity if there is none."""
        return float("inf") if self.last_accepted_s is None else time.monotonic() - self.last_accepted_s

    def record_seconds(self, stage: str, seconds: float) -> None:
        """Count the duration of a stage that ends after the result of its frame, such as publishing."""
        with self._lock:
            self._window(stage).append(seconds)

    def percentiles_s(self) -> dict[str, dict[str, float]]:
        """Return p50, p95 and p99 of the last frames, by stage; computed once a second at most."""
        now = time.monotonic()
        if now - self._percentiles_at_s >= PERCENTILES_PERIOD_S:
            with self._lock:
                windows = {stage: list(window) for stage, window in self.seconds.items()}
            self._percentiles = {stage: _percentiles(values) for stage, values in windows.items()}
            self._percentiles_at_s = now
        return self._percentiles

    def _window(self, stage: str) -> deque[float]:
        return self.seconds.setdefault(stage, deque(maxlen=LATENCY_WINDOW))


def _percentiles(values: list[float]) -> dict[str, float]:
    return dict(zip(("p50", "p95", "p99"), np.percentile(values, (50, 95, 99)).tolist(), strict=True))
