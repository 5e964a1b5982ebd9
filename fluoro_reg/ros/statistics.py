"""Counters of the node, written by the executor's and the worker's thread and read by the diagnostics."""

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from fluoro_reg.registration.result import RegistrationResult

LATENCY_WINDOW = 200  # frames


@dataclass(slots=True)
class Statistics:
    """Counters since `configure`; `latencies_s` holds the last `LATENCY_WINDOW` frames."""

    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    last_accepted_s: float | None = None
    last_reason: str = ""
    last_accepted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        """Add one to the counter `name`."""
        with self._lock:
            self.counts[name] += 1

    def record_result(self, result: RegistrationResult, latency_s: float) -> None:
        """Count the result of one frame."""
        with self._lock:
            self.outcomes["accepted" if result.accepted else result.outcome.value] += 1
            self.latencies_s.append(latency_s)
            self.last_reason, self.last_accepted = result.reason, result.accepted
            if result.accepted:
                self.last_accepted_s = time.monotonic()

    def seconds_since_accepted(self) -> float:
        """Return the time since the last accepted frame in s; infinity if there is none."""
        return float("inf") if self.last_accepted_s is None else time.monotonic() - self.last_accepted_s

    def latency_percentiles_s(self) -> dict[str, float]:
        """Return p50, p95 and p99 of the last frames; empty if there are none."""
        with self._lock:
            values = list(self.latencies_s)
        return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)} if values else {}
