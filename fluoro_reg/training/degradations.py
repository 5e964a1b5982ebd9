"""Random degradations that make line integrals look like X-rays: cheap, and for a whole batch at once.

Every image has its own strength of each effect. The order follows the imaging chain: tissue that the CT lacks, couch and tools
are in the beam; scatter adds light; the beam is uneven and collimated; the detector blurs, counts photons and saturates; a
display curve follows, and the signal or its logarithm is stored. As in a preprocessed X-ray, saturated air and the outside of a
detected collimator are masked, but not every collimator is detected.

The effects are those of `fluoro_reg.simulation`, drawn more widely and without its cost. That package shares no code with this
one, so that a network is validated on images unlike those it was trained on.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d

from fluoro_reg.config import option
from fluoro_reg.training import artefacts
from fluoro_reg.training.random_values import RandomValues

Images = Float[Tensor, "batch height width"]
Masks = Bool[Tensor, "batch height width"]

_MINIMUM_LIGHT = 1e-4  # as a fraction of open air
_STRIDE = 7  # every seventh pixel is enough to estimate a quantile
_BODY = 0.4  # line integral of 20 mm of water: less counts as outside the patient
_EXPOSURE = (0.15, 0.6)  # signal of the body's median, as a fraction of full scale, where exposure may saturate air
_DECADES = 2.0  # of the signal, where its logarithm is stored
_FOUND_AIR = 0.8  # fraction of images whose saturated air is masked
_FLOOR = 0.02  # electronic noise, relative to the maximum noise


@dataclass(frozen=True, slots=True)
class DegradationOptions:
    """Strength of the degradations: fractions of images with an effect, maximum strengths, and ranges (low, high)."""

    bone_contrast: tuple[float, float] = option((0.5, 2.0), "factor of what bone adds to soft tissue", minimum=0, maximum=10)
    density: tuple[float, float] = option((0.7, 1.3), "factor of the whole line integral", minimum=0.1, maximum=10)
    beyond: float = option(0.5, "fraction of images in which the body goes on where the CT is cut", minimum=0, maximum=1)
    background: float = option(0.4, "fraction of images with smooth tissue that the CT lacks", minimum=0, maximum=1)
    couch: float = option(0.25, "fraction of images with a couch in the beam", minimum=0, maximum=1)
    saturation: float = option(0.5, "fraction of images whose exposure may saturate air", minimum=0, maximum=1)
    scatter: float = option(0.5, "maximum fraction of scatter in the signal", minimum=0, maximum=0.9)
    noise: float = option(0.05, "maximum noise, as a fraction of the signal behind the body", minimum=0, maximum=1)
    blur_px: float = option(1.0, "maximum standard deviation of the blur", unit="px", minimum=0, maximum=5)
    shading: float = option(0.4, "maximum change of the line integral across the image", minimum=0, maximum=5)
    gamma: tuple[float, float] = option((0.5, 1.6), "exponent of the display curve", minimum=0.1, maximum=5)
    offset: float = option(0.02, "maximum dark signal, as a fraction of full scale", minimum=0, maximum=0.5)
    attenuation: float = option(0.4, "fraction of images that store the logarithm of the signal", minimum=0, maximum=1)
    tools: float = option(0.3, "fraction of images with tools in the beam", minimum=0, maximum=1)
    writing: float = option(0.1, "fraction of images with writing", minimum=0, maximum=1)
    collimation: float = option(0.4, "fraction of images with a collimated field", minimum=0, maximum=1)


def degrade(integrals: Images, options: DegradationOptions, random: RandomValues) -> tuple[Images, Masks]:
    """Degrade line integrals.

    Returns:
        The attenuation of X-rays, up to scale and offset, and the masks of usable pixels.
    """
    height, width = integrals.shape[1:]
    x = integrals * random.log_uniform(*options.density)[:, None, None]
    x = artefacts.add_background(x, random.bernoulli(options.background), random)
    body = x > _BODY
    x = artefacts.add_couch(x, random.bernoulli(options.couch), random)
    x = artefacts.add_tools(x, random.bernoulli(options.tools), random)
    signal = with_scatter(torch.exp(-x), body, options.scatter, random)
    reference = _median_of(signal, body)
    uneven = options.shading * random.uniform(0, 1)[:, None, None] * artefacts.shading(height, width, random)
    passing, mask = artefacts.collimator(signal, random.bernoulli(options.collimation), random)
    signal = _blur(signal * torch.exp(-uneven) * passing, options.blur_px, random) / reference[:, None, None]
    signal = _with_noise(signal, options.noise, random)
    level, saturated = expose(signal, options.saturation, random)
    x = _stored(level, options, random)
    x = artefacts.add_writing(_from_0_to_1(x), random.bernoulli(options.writing), random)
    return x, mask & ~(_without_rim(saturated) & random.bernoulli(_FOUND_AIR)[:, None, None])


def with_scatter(light: Images, body: Masks, maximum: float, random: RandomValues) -> Images:
    """Add smooth scatter to light, up to a fraction of the signal behind the body; open air causes none."""
    source = -light * torch.log(light.clamp_min(_MINIMUM_LIGHT))
    spread = torch.nn.functional.adaptive_avg_pool2d(source, 4)[:, None]
    glow = interpolate(spread, size=light.shape[1:], mode="bilinear")[:, 0]
    fraction = random.uniform(0, maximum)
    ratio = fraction / (1 - fraction) * _median_of(light, body) / _median_of(glow, body).clamp_min(_MINIMUM_LIGHT)
    return light + glow * ratio[:, None, None]


def expose(signal: Images, saturating: float, random: RandomValues) -> tuple[Images, Masks]:
    """Return the signal as a fraction of full scale, and where it is saturated.

    Automatic exposure looks at the body (whose median is 1 in `signal`), so that air may be far beyond full scale. In other
    images, nothing is saturated.
    """
    whole = 1 / signal.amax((1, 2)).clamp_min(_MINIMUM_LIGHT)
    exposure = torch.where(random.bernoulli(saturating), random.log_uniform(*_EXPOSURE), whole)
    level = signal * exposure[:, None, None]
    return level.clamp(_MINIMUM_LIGHT, 1.0), level > 1


def _with_noise(signal: Images, maximum: float, random: RandomValues) -> Images:
    """Add the noise of photons, which is 1 where the signal is, and some noise of electronics."""
    sd = maximum * random.uniform(0, 1).square()[:, None, None]
    return signal + sd * (signal.clamp_min(0) + _FLOOR**2).sqrt() * random.normal(*signal.shape[1:])


def _stored(level: Images, options: DegradationOptions, random: RandomValues) -> Images:
    """Return the attenuation that a reader of the image sees: the signal or its logarithm has a display curve."""
    gamma = random.log_uniform(*options.gamma)[:, None, None]
    offset = options.offset * random.uniform(0, 1)[:, None, None]
    of_signal = -torch.log(offset + (1 - offset) * level**gamma)
    of_logarithm = (-torch.log10(level) / _DECADES).clamp_max(1.0) ** gamma
    return torch.where(random.bernoulli(options.attenuation)[:, None, None], of_logarithm, of_signal)


def _from_0_to_1(x: Images) -> Images:
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-6)


def _without_rim(region: Masks) -> Masks:
    """Return the pixels of a region that have no neighbour outside of it; the image's border is none."""
    return max_pool2d((~region)[:, None].float(), 3, stride=1, padding=1)[:, 0] == 0


def _median_of(x: Images, where: Masks) -> Float[Tensor, "batch"]:
    """Return the median of each image where a mask is true, or of the whole image where it is nowhere."""
    values, chosen = x.flatten(1)[:, ::_STRIDE], where.flatten(1)[:, ::_STRIDE]
    chosen = chosen | ~chosen.any(1, keepdim=True)
    ascending = torch.where(chosen, values, torch.inf).sort(-1).values
    return ascending.gather(1, (chosen.sum(1, keepdim=True) - 1) // 2)[:, 0]


def _blur(x: Images, maximum_px: float, random: RandomValues) -> Images:
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
