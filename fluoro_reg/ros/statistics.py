"""What the node counts. Written by the executor's thread and the worker's, read by the diagnostics."""

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from fluoro_reg.registration.result import RegistrationResult

WINDOW = 200  # frames over which latencies are summarised


@dataclass(slots=True)
class Statistics:
    """Counters since configure; `latencies_s` of the last frames."""

    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    last_accepted_s: float | None = None
    last_reason: str = ""
    last_accepted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        """One more of `name`."""
        with self._lock:
            self.counts[name] += 1

    def answered(self, result: RegistrationResult, latency_s: float) -> None:
        """One more frame with an answer."""
        with self._lock:
            self.outcomes["accepted" if result.accepted else result.outcome.value] += 1
            self.latencies_s.append(latency_s)
            self.last_reason, self.last_accepted = result.reason, result.accepted
            if result.accepted:
                self.last_accepted_s = time.monotonic()

    def seconds_since_accepted(self) -> float:
        """Infinite when no frame was accepted yet."""
        return float("inf") if self.last_accepted_s is None else time.monotonic() - self.last_accepted_s

    def latency_percentiles_s(self) -> dict[str, float]:
        """p50, p95 and p99 of the last frames; empty when there are none."""
        with self._lock:
            values = list(self.latencies_s)
        return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)} if values else {}


class InputMonitor:
    """Notices images without CameraInfo and the reverse, and says what to do about it.

    The first is the commonest mistake in setting up such a node, the second is how DDS shows that it loses large images, and
    both are silent otherwise.
    """

    def __init__(self, timeout_s: float, image_topic: str, info_topic: str) -> None:
        self._timeout_s = timeout_s
        self._topics = (image_topic, info_topic)
        self._begin_s = time.monotonic()
        self._images = self._infos = self._pairs = 0
        self.warning = ""

    def image(self) -> None:
        """An image came."""
        self._images += 1

    def info(self) -> None:
        """A CameraInfo came."""
        self._infos += 1

    def pair(self) -> None:
        """An image and a CameraInfo met."""
        self._pairs += 1

    def check(self) -> bool:
        """Looks at the last window once it is over; True when `warning` is news. No input at all is no fault."""
        if time.monotonic() - self._begin_s < self._timeout_s:
            return False
        self.warning = self._judge()
        self._images = self._infos = self._pairs = 0
        self._begin_s = time.monotonic()
        return bool(self.warning)

    def _judge(self) -> str:
        image_topic, info_topic = self._topics
        seen = f"for {self._timeout_s:g} s (images {self._images}, infos {self._infos}, pairs {self._pairs})"
        if self._pairs or not (self._images or self._infos):
            return ""
        if not self._infos:
            advice = "publish it with the image's stamp, or remap camera_info"
            return f"{image_topic} has no CameraInfo on {info_topic} {seen}; {advice}"
        if not self._images:
            return (
                f"CameraInfo arrives on {info_topic} but no image on {image_topic} {seen}; if images are published, they are "
                "lost on the way: use the Fast DDS profile of this package, or qos.image: reliable"
            )
        return f"images and CameraInfo never have the same stamp {seen}; the driver must give both the time of exposure"
