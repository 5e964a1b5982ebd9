"""What a detector does to line integrals, at random: cheap, and for a whole batch at once.

Every image gets each effect with its own strength. The order is the detector's: open air saturates, scatter adds light, photons
are counted, the image is blurred, shaded and shown on a curve of its own; then tools lie in the beam, somebody writes on the
picture, and a collimator leaves a part of it. What a preprocessed X-ray masks (outside a collimator that was found) is masked
here, but not always: none is always found.

It is no model of physics: `fluoro_reg.simulation.simulator` is, and a regressor is judged on what it has not been trained on.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from fluoro_reg.config import option
from fluoro_reg.training import artefacts
from fluoro_reg.training.random_values import RandomValues

_DARKEST = 1e-4  # of open air
_STRIDE = 7  # every seventh pixel is enough for a quantile
_MAXIMUM_SATURATED = 0.3  # of the pixels
_MAXIMUM_GRAIN = 3.0  # times the noise in the middle of the body


@dataclass(frozen=True, slots=True)
class DegradationOptions:
    """How bad it may get. Shares are the share of images that have the effect; the rest are upper ends or bands."""

    bone_contrast: tuple[float, float] = option((0.5, 2.0), "factor of what bone adds to soft tissue", minimum=0, maximum=10)
    density: tuple[float, float] = option((0.7, 1.3), "factor of everything", minimum=0.1, maximum=10)
    saturation: float = option(0.5, "share of images whose brightest parts are cut off", minimum=0, maximum=1)
    scatter: float = option(0.5, "greatest share of scatter in the signal", minimum=0, maximum=0.9)
    noise: float = option(0.1, "greatest noise, of the contrast", minimum=0, maximum=1)
    blur_px: float = option(1.0, "greatest standard deviation of blur", unit="px", minimum=0, maximum=5)
    shading: float = option(0.4, "greatest change of the line integral across the image", minimum=0, maximum=5)
    gamma: tuple[float, float] = option((0.7, 1.5), "exponent of the display curve of attenuation", minimum=0.1, maximum=5)
    tools: float = option(0.3, "share of images with tools in the beam", minimum=0, maximum=1)
    writing: float = option(0.1, "share of images with writing", minimum=0, maximum=1)
    collimation: float = option(0.4, "share of images with a collimated field", minimum=0, maximum=1)


def degrade(
    integrals: Float[Tensor, "batch height width"], options: DegradationOptions, random: RandomValues
) -> tuple[Float[Tensor, "batch height width"], Bool[Tensor, "batch height width"]]:
    """Attenuation as an X-ray would have it, up to scale and offset, and the pixels that may be used."""
    height, width = integrals.shape[1:]
    x = detected(integrals * random.log_uniform(*options.density)[:, None, None], options, random)
    x = _blurred(x, options.blur_px, random)
    x = x + options.shading * random.even(0, 1)[:, None, None] * artefacts.ramp(height, width, random)
    x = _displayed(x, options.gamma, random)
    x = artefacts.with_tools(x, random.happens(options.tools), random)
    x = artefacts.with_writing(x, random.happens(options.writing), random)
    return artefacts.collimated(x, random.happens(options.collimation), random)


def detected(
    integrals: Float[Tensor, "batch height width"], options: DegradationOptions, random: RandomValues
) -> Float[Tensor, "batch height width"]:
    """Log of the counted light: scatter, saturation, and noise that grows where little light comes through."""
    light = torch.exp(-integrals)
    spread = torch.nn.functional.adaptive_avg_pool2d(light * integrals, 4)[:, None]
    glow = interpolate(spread, size=light.shape[1:], mode="bilinear")[:, 0]
    ascending = light.flatten(1)[:, ::_STRIDE].sort(-1).values
    dark, middle, bright = (_at_share(ascending, torch.full_like(light[:, 0, 0], share)) for share in (0.1, 0.3, 0.9))
    share = random.even(0, options.scatter)
    scatter = middle * share / (1 - share) / glow.mean((1, 2)).clamp_min(_DARKEST)
    cut = torch.where(random.happens(options.saturation), 1 - random.even(0, _MAXIMUM_SATURATED), 1.0)
    light = torch.minimum(light, _at_share(ascending, cut)[:, None, None]) + glow * scatter[:, None, None]
    contrast = torch.log(bright.clamp_min(_DARKEST) / dark.clamp_min(_DARKEST))
    sd = options.noise * random.even(0, 1) * contrast
    grain = sd[:, None, None] * (middle[:, None, None] / light.clamp_min(_DARKEST)).sqrt().clamp_max(_MAXIMUM_GRAIN)
    return -torch.log(light.clamp_min(_DARKEST)) + grain * random.normal(*light.shape[1:])


def _at_share(ascending: Float[Tensor, "batch n"], share: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """A quantile of sorted numbers."""
    index = (share * (ascending.shape[1] - 1)).long()
    return ascending.gather(1, index[:, None])[:, 0]


def _blurred(
    x: Float[Tensor, "batch height width"], most_px: float, random: RandomValues
) -> Float[Tensor, "batch height width"]:
    """Each image between itself and its most blurred copy: one kernel serves all."""
    if most_px == 0:
        return x
    reach = max(1, round(2.5 * most_px))
    position = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (position / most_px).square())
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(x[:, None], (reach,) * 4, mode="replicate")
    blurred = conv2d(conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])[:, 0]
    return torch.lerp(x, blurred, random.even(0, 1)[:, None, None])


def _displayed(
    x: Float[Tensor, "batch height width"], gamma: tuple[float, float], random: RandomValues
) -> Float[Tensor, "batch height width"]:
    """0 (brightest) to 1 (darkest), raised to a power."""
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return ((x - low) / (high - low).clamp_min(1e-6)) ** random.log_uniform(*gamma)[:, None, None]
