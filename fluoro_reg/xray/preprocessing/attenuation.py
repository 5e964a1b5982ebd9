"""From detected photons to line integrals: `L = log(I0 / I)` (Beer and Lambert), up to scatter, gamma and windows.

I0 is what open air would give; the brightest usable pixels stand in for it. An offset of the logarithm is harmless to every
similarity used here, so an image without air loses nothing. The darkest numbers must not reach minus infinity: below half a
step of quantisation, or half the darkest permille, nothing is known.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

_SAMPLES = 65536
_DARKEST_FRACTION = 1e-6


def usable_sample(pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> Float[np.ndarray, "n"]:
    """At most 65536 usable pixels in ascending order, evenly spread over the image: enough for quantiles to 0.1 %."""
    flat, usable = pixels.reshape(-1), mask.reshape(-1)
    # a stride that is odd and no divisor of usual widths does not fall on columns
    step = max(1, flat.numel() // _SAMPLES)
    step += 1 - step % 2 if step > 1 else 0
    sample = flat[::step][usable[::step]]
    return np.sort((sample if sample.numel() else flat[usable]).numpy())


def quantile(ascending: Float[np.ndarray, "n"], share: float) -> float:
    """A quantile of sorted numbers."""
    return float(ascending[min(int(share * len(ascending)), len(ascending) - 1)])


def attenuation_from_transmitted(
    pixels: Float[Tensor, "height width"], ascending: Float[np.ndarray, "n"], air_quantile: float
) -> tuple[Float[Tensor, "height width"], float]:
    """`log(I0 / I)` and the I0 used; `ascending` are the usable pixels that `usable_sample` gives.

    Photons are not negative: numbers that are (normalised images, signed pixels) are counted from their least.
    """
    offset = min(0.0, float(ascending[0]))
    photons = ascending - offset
    i0 = quantile(photons, air_quantile)
    floor = darkest_known(photons, i0)
    return (pixels - offset).clamp_min_(floor).log_().neg_().add_(math.log(max(i0, floor))), i0 + offset


def darkest_known(ascending: Float[np.ndarray, "n"], i0: float) -> float:
    """Half a quantisation step, or half the darkest permille where that is more; never under a millionth of I0."""
    gaps = np.diff(ascending)
    gaps = gaps[gaps > 0]
    step = float(gaps.min()) if gaps.size else 0.0
    return max(step / 2, quantile(ascending, 0.001) / 2, _DARKEST_FRACTION * i0, 1e-30)


def attenuation_scaled(
    pixels: Float[Tensor, "height width"], ascending: Float[np.ndarray, "n"], air_quantile: float
) -> tuple[Float[Tensor, "height width"], float]:
    """Numbers that are attenuation up to scale and offset, as 0 (air) to about 1 (densest); and the number taken for air."""
    air, densest = quantile(ascending, 1 - air_quantile), quantile(ascending, air_quantile)
    return (pixels - air) / max(densest - air, 1e-12), air
