"""Frames that need no registration: copies of the frame before, and frames without a beam.

A detector never gives the same noise twice. A frame whose pixels equal those of the frame before is that frame again, from a
frozen display, a last-image hold, or a driver that repeats. It says nothing about where the patient is at its stamp.
"""

import enum
from dataclasses import dataclass, field

import numpy as np
import torch

from fluoro_reg.xray.image import Intensity, XrayImage

DARK = 0.1  # of the median grey of accepted frames: the brightest pixels of a frame without a beam are darker
_SAMPLES = 4096


class FrameKind(str, enum.Enum):
    """What a frame is, before it is registered."""

    NEW = "new"
    REPEATED = "repeated"
    DARK = "dark"


REASONS = {
    FrameKind.REPEATED: "the image repeats the frame before, pixel for pixel: the source is frozen, or holds its last image",
    FrameKind.DARK: "the image is dark: the beam is off",
}


@dataclass(slots=True)
class FrameCheck:
    """Remembers the last frame, and how bright accepted frames are. `register_repeats` lets copies pass."""

    register_repeats: bool = False
    _last: XrayImage | None = field(default=None, init=False)
    _level: float | None = field(default=None, init=False)

    def kind(self, xray: XrayImage) -> FrameKind:
        """Return what the next frame is."""
        last, self._last = self._last, xray
        if last is not None and not self.register_repeats and torch.equal(last.pixels, xray.pixels):
            return FrameKind.REPEATED
        return FrameKind.DARK if self._is_dark(xray) else FrameKind.NEW

    def accept(self, xray: XrayImage) -> None:
        """Learn the brightness of an accepted frame."""
        self._level = float(np.median(_sample(xray)))

    def reset(self) -> None:
        """Forget everything, as for another source of images."""
        self._last, self._level = None, None

    def _is_dark(self, xray: XrayImage) -> bool:
        if self._level is None or xray.intensity is Intensity.ATTENUATION:
            return False
        return float(np.quantile(_sample(xray), 0.995)) < DARK * self._level


def _sample(xray: XrayImage) -> np.ndarray:
    flat = xray.pixels.reshape(-1)[:: max(1, xray.pixels.numel() // _SAMPLES) | 1].numpy()
    finite = flat[np.isfinite(flat)]
    return finite if finite.size else np.zeros(1)
