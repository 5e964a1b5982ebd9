"""Random degradations that make line integrals look like X-rays: cheap, and for a whole batch at once.

Every image has its own strength of each effect. The order follows the imaging chain: open air saturates, scatter adds light,
noise is added, the image is blurred, shaded and mapped by a display curve; then tools, writing and a collimator are added. As
in a preprocessed X-ray, the outside of a detected collimator is masked, but not every collimator is detected.

This is not a physical model. `fluoro_reg.simulation.simulator` is one, so that a regressor can be evaluated on images unlike
those it was trained on.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from fluoro_reg.config import option
from fluoro_reg.training import artefacts
from fluoro_reg.training.random_values import RandomValues

_MINIMUM_LIGHT = 1e-4  # as a fraction of open air
_STRIDE = 7  # every seventh pixel is enough to estimate a quantile
_MAXIMUM_SATURATED_FRACTION = 0.3  # of the pixels
_MAXIMUM_NOISE_RATIO = 3.0  # relative to the noise in the middle of the body


@dataclass(frozen=True, slots=True)
class DegradationOptions:
    """Strength of the degradations: fractions of images with an effect, maximum strengths, and ranges (low, high)."""

    bone_contrast: tuple[float, float] = option((0.5, 2.0), "factor of what bone adds to soft tissue", minimum=0, maximum=10)
    density: tuple[float, float] = option((0.7, 1.3), "factor of the whole line integral", minimum=0.1, maximum=10)
    saturation: float = option(0.5, "fraction of images whose brightest parts are saturated", minimum=0, maximum=1)
    scatter: float = option(0.5, "maximum fraction of scatter in the signal", minimum=0, maximum=0.9)
    noise: float = option(0.1, "maximum noise, as a fraction of the contrast", minimum=0, maximum=1)
    blur_px: float = option(1.0, "maximum standard deviation of the blur", unit="px", minimum=0, maximum=5)
    shading: float = option(0.4, "maximum change of the line integral across the image", minimum=0, maximum=5)
    gamma: tuple[float, float] = option((0.7, 1.5), "exponent of the display curve of attenuation", minimum=0.1, maximum=5)
    tools: float = option(0.3, "fraction of images with tools in the beam", minimum=0, maximum=1)
    writing: float = option(0.1, "fraction of images with writing", minimum=0, maximum=1)
    collimation: float = option(0.4, "fraction of images with a collimated field", minimum=0, maximum=1)


def degrade(
    integrals: Float[Tensor, "batch height width"], options: DegradationOptions, random: RandomValues
) -> tuple[Float[Tensor, "batch height width"], Bool[Tensor, "batch height width"]]:
    """Degrade line integrals.

    Returns:
        The attenuation of X-rays, up to scale and offset, and the masks of usable pixels.
    """
    height, width = integrals.shape[1:]
    x = detect(integrals * random.log_uniform(*options.density)[:, None, None], options, random)
    x = _blur(x, options.blur_px, random)
    x = x + options.shading * random.uniform(0, 1)[:, None, None] * artefacts.shading(height, width, random)
    x = _apply_display_curve(x, options.gamma, random)
    x = artefacts.add_tools(x, random.bernoulli(options.tools), random)
    x = artefacts.add_writing(x, random.bernoulli(options.writing), random)
    return artefacts.collimate(x, random.bernoulli(options.collimation), random)


def detect(
    integrals: Float[Tensor, "batch height width"], options: DegradationOptions, random: RandomValues
) -> Float[Tensor, "batch height width"]:
    """Return the negative log of the detected light, with scatter, saturation, and noise that is stronger in dark parts."""
    light = torch.exp(-integrals)
    spread = torch.nn.functional.adaptive_avg_pool2d(light * integrals, 4)[:, None]
    glow = interpolate(spread, size=light.shape[1:], mode="bilinear")[:, 0]
    ascending = light.flatten(1)[:, ::_STRIDE].sort(-1).values
    dark, middle, bright = (_quantile(ascending, torch.full_like(light[:, 0, 0], fraction)) for fraction in (0.1, 0.3, 0.9))
    scatter_fraction = random.uniform(0, options.scatter)
    scatter = middle * scatter_fraction / (1 - scatter_fraction) / glow.mean((1, 2)).clamp_min(_MINIMUM_LIGHT)
    saturated_from = torch.where(random.bernoulli(options.saturation), 1 - random.uniform(0, _MAXIMUM_SATURATED_FRACTION), 1.0)
    light = torch.minimum(light, _quantile(ascending, saturated_from)[:, None, None]) + glow * scatter[:, None, None]
    contrast = torch.log(bright.clamp_min(_MINIMUM_LIGHT) / dark.clamp_min(_MINIMUM_LIGHT))
    sd = options.noise * random.uniform(0, 1) * contrast
    noise_sd = sd[:, None, None] * (middle[:, None, None] / light.clamp_min(_MINIMUM_LIGHT)).sqrt().clamp_max(
        _MAXIMUM_NOISE_RATIO
    )
    return -torch.log(light.clamp_min(_MINIMUM_LIGHT)) + noise_sd * random.normal(*light.shape[1:])


def _quantile(ascending: Float[Tensor, "batch n"], fraction: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Return a quantile of each row of sorted values."""
    index = (fraction * (ascending.shape[1] - 1)).long()
    return ascending.gather(1, index[:, None])[:, 0]


def _blur(
    x: Float[Tensor, "batch height width"], maximum_px: float, random: RandomValues
) -> Float[Tensor, "batch height width"]:
    """Mix each image with a copy that has the maximum blur, so that one kernel serves all images."""
    if maximum_px == 0:
        return x
    radius = max(1, round(2.5 * maximum_px))
    position = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (position / maximum_px).square())
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(x[:, None], (radius,) * 4, mode="replicate")
    blurred = conv2d(conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])[:, 0]
    return torch.lerp(x, blurred, random.uniform(0, 1)[:, None, None])


def _apply_display_curve(
    x: Float[Tensor, "batch height width"], gamma: tuple[float, float], random: RandomValues
) -> Float[Tensor, "batch height width"]:
    """Scale each image from 0 (brightest) to 1 (darkest) and raise it to a random power."""
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return ((x - low) / (high - low).clamp_min(1e-6)) ** random.log_uniform(*gamma)[:, None, None]
