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


class InputMonitor:
    """Detects images without CameraInfo and CameraInfo without images, and advises what to do.

    The first is the most common mistake when setting up the node. The second is a symptom of DDS losing large images. Without
    this check, both would go unnoticed.
    """

    def __init__(self, timeout_s: float, image_topic: str, info_topic: str) -> None:
        self._timeout_s = timeout_s
        self._topics = (image_topic, info_topic)
        self._begin_s = time.monotonic()
        self._images = self._infos = self._pairs = 0
        self.warning = ""

    def count_image(self) -> None:
        """Count an image."""
        self._images += 1

    def count_info(self) -> None:
        """Count a CameraInfo."""
        self._infos += 1

    def count_pair(self) -> None:
        """Count a pair of an image and its CameraInfo."""
        self._pairs += 1

    def check(self) -> bool:
        """Update `warning` at the end of each window and return whether there is a new one; no input at all is not a fault."""
        if time.monotonic() - self._begin_s < self._timeout_s:
            return False
        self.warning = self._describe_problem()
        self._images = self._infos = self._pairs = 0
        self._begin_s = time.monotonic()
        return bool(self.warning)

    def _describe_problem(self) -> str:
        image_topic, info_topic = self._topics
        counts = f"for {self._timeout_s:g} s (images {self._images}, infos {self._infos}, pairs {self._pairs})"
        if self._pairs or not (self._images or self._infos):
            return ""
        if not self._infos:
            advice = "publish it with the image's stamp, or remap camera_info"
            return f"{image_topic} has no CameraInfo on {info_topic} {counts}; {advice}"
        if not self._images:
            return (
                f"CameraInfo arrives on {info_topic} but no image on {image_topic} {counts}; if images are published, they are "
                "lost in transport: use the Fast DDS profile of this package, or qos.image: reliable"
            )
        return f"images and CameraInfo never have the same stamp {counts}; the driver must give both the time of exposure"
