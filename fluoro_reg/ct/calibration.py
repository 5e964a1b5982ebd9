"""Hounsfield units for values that are not calibrated, as those of a C-arm's cone-beam CT.

Air and soft tissue are the two materials that every such volume shows. Their levels are the modes of the histogram, and the
linear map that takes them to their HU makes thresholds of bone, air and metal mean what they mean in a CT. Values that show
both at their HU already stay as they are.
"""

import numpy as np
from jaxtyping import Float32, Float64

from fluoro_reg.ct.attenuation import AIR_HU
from fluoro_reg.ct.hu_thresholds import SOFT_TISSUE_HU

_UNCALIBRATED = "cone-beam CT of a C-arm: its values are not calibrated Hounsfield units"
_BINS = 400
_SMOOTHING_BINS = 3.0
_PROMINENCE = 0.02  # of the highest peak of the square root of the histogram, in which a small mode still shows
_VALLEY = 0.3  # of the height of a mode, by which it stands above the valleys beside it
_PADDING_FRACTION = 0.01
_TOLERANCE_HU = 150.0  # fat and muscle are one mode in a noisy volume
_MAXIMUM_SAMPLES = 2_000_000


def calibrate(values: Float32[np.ndarray, "slices rows columns"]) -> list[str]:
    """Map uncalibrated values to HU, in place, by the levels of air and soft tissue.

    Returns:
        The warnings: that the values are not calibrated, and what was done about it.
    """
    levels = _levels(values)
    if levels is None:
        return [f"{_UNCALIBRATED}, and air and tissue cannot be told apart in it: the values are used as they are"]
    air, tissue = levels
    if abs(air - AIR_HU) < _TOLERANCE_HU and abs(tissue - SOFT_TISSUE_HU) < _TOLERANCE_HU:
        return [f"{_UNCALIBRATED}; air reads {air:.0f} and tissue {tissue:.0f}, so they are used as they are"]
    slope = (SOFT_TISSUE_HU - AIR_HU) / (tissue - air)
    values -= np.float32(air)
    values *= np.float32(slope)
    values += np.float32(AIR_HU)
    return [f"{_UNCALIBRATED}; air read {air:.0f} and tissue {tissue:.0f}, which were mapped to their HU"]


def _levels(values: Float32[np.ndarray, "slices rows columns"]) -> tuple[float, float] | None:
    """Return the levels of air and soft tissue; None if there are no two modes. A constant outside the field is not air."""
    step = max(1, round((values.size / _MAXIMUM_SAMPLES) ** (1 / 3)))
    sample = values[::step, ::step, ::step].ravel()
    lowest = sample.min()
    inside = sample[sample > lowest]
    if inside.size and 1 - inside.size / sample.size > _PADDING_FRACTION:
        modes = _modes(inside)
        if len(modes) >= 2:
            return float(modes[0][0]), _tissue(modes)
    modes = _modes(sample)
    return (float(modes[0][0]), _tissue(modes)) if len(modes) >= 2 else None


def _tissue(modes: Float64[np.ndarray, "modes 2"]) -> float:
    """Return the level of the largest mode above that of air."""
    return float(modes[1 + int(modes[1:, 1].argmax()), 0])


def _modes(sample: Float32[np.ndarray, "samples"]) -> Float64[np.ndarray, "modes 2"]:
    """Return (level, height) of the modes of a sample, in ascending order of their levels."""
    from scipy import ndimage, signal  # imported here, as they take a third of a second and few CTs need them

    low, high = np.quantile(sample, (0.001, 0.995))
    if high <= low:
        return np.empty((0, 2))
    margin = 0.05 * (high - low)
    counts, edges = np.histogram(sample, _BINS, (low - margin, high + margin))
    heights = np.sqrt(ndimage.gaussian_filter1d(counts.astype(np.float64), _SMOOTHING_BINS, mode="constant"))
    peaks, found = signal.find_peaks(np.pad(heights, 1), prominence=_PROMINENCE * heights.max())
    peaks = peaks[found["prominences"] >= _VALLEY * heights[peaks - 1]] - 1
    return np.stack([(edges[peaks] + edges[peaks + 1]) / 2, heights[peaks]], axis=-1)
