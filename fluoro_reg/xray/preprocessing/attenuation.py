"""Conversion of detected photons to line integrals: `L = log(I0 / I)` (Beer-Lambert), up to scatter, gamma and windowing.

I0 is the intensity in open air, for which the brightest usable pixels are used. An error of I0 adds an offset to the line
integrals, to which all similarities of the package are invariant, so that an image without air is no problem. The darkest
values are clamped, so that the logarithm stays finite: values below half a quantisation step, or below half of the 0.1 %
quantile, carry no information.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.xray.pixel_kernels import smallest_gap

_SAMPLES = 65536
_MINIMUM_FRACTION_OF_I0 = 1e-6


def sample_usable_pixels(pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> Float[np.ndarray, "n"]:
    """Return about 65536 usable pixels from all over the image: enough for quantiles to 0.1 %."""
    flat, usable = pixels.numpy().reshape(-1), mask.numpy().reshape(-1)
    # an odd stride does not divide the usual widths, so that the samples do not fall on a few columns
    step = max(1, flat.size // _SAMPLES)
    step += 1 - step % 2 if step > 1 else 0
    sample = flat[::step][usable[::step]]
    return sample if sample.size else flat[usable]


def quantile(ascending: Float[np.ndarray, "n"], fraction: float) -> float:
    """Return a quantile of sorted values."""
    return float(ascending[min(int(fraction * len(ascending)), len(ascending) - 1)])


def attenuation_from_transmitted(
    pixels: Float[Tensor, "height width"], ascending: Float[np.ndarray, "n"], air_quantile: float
) -> tuple[Float[Tensor, "height width"], float]:
    """Convert detected photons to line integrals.

    Counts of photons are not negative. If values are negative (normalised images, signed pixels), their minimum is subtracted.

    Args:
        pixels: The image.
        ascending: A sample of its usable pixels, in ascending order.
        air_quantile: Quantile of the usable pixels that is used as I0.

    Returns:
        `log(I0 / I)`, and I0.
    """
    offset = min(0.0, float(ascending[0]))
    photons = ascending - offset
    i0 = quantile(photons, air_quantile)
    floor = minimum_photons(photons, i0)
    return (pixels - offset).clamp_min_(floor).log_().neg_().add_(math.log(max(i0, floor))), i0 + offset


def minimum_photons(ascending: Float[np.ndarray, "n"], i0: float) -> float:
    """Return half a quantisation step or half of the 0.1 % quantile, whichever is larger, but at least a millionth of I0."""
    return max(smallest_gap(ascending) / 2, quantile(ascending, 0.001) / 2, _MINIMUM_FRACTION_OF_I0 * i0, 1e-30)


def scale_attenuation(
    pixels: Float[Tensor, "height width"], ascending: Float[np.ndarray, "n"], air_quantile: float
) -> tuple[Float[Tensor, "height width"], float]:
    """Scale attenuation to 0 (air) to about 1 (densest). Returns the scaled image and the value that was used for air."""
    air, densest = quantile(ascending, 1 - air_quantile), quantile(ascending, air_quantile)
    return (pixels - air) / max(densest - air, 1e-12), air
