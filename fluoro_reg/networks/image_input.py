"""The input image of a network: an X-ray's attenuation, standardised by quantiles.

The median is subtracted, the result is divided by the spread of the intensities and clamped to `LIMIT` standard deviations. The
gain and the offset of an X-ray carry no information about the pose. Neither does a tool, which may be ten times as dense as
bone: with mean and standard deviation it would compress the contrast of everything else, hence quantiles. Real X-rays and
training images pass through the same function, so that they have the same appearance. Pixels outside the mask are 0, the
median.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.resample import resample

MINIMUM_VISIBLE_FRACTION = 0.1  # default for the fraction of a network's image that an X-ray must cover
LIMIT = 3.0
QUANTILES = (0.1, 0.5, 0.9)
QUANTILE_RANGE_IN_SD = 2.563  # from the lowest to the highest of QUANTILES in a normal distribution
_STRIDE = 5  # every fifth pixel is enough to estimate the quantiles


def input_from_xray(
    image: XrayImage,
    camera: CameraIntrinsics,
    network_name: str,
    remedy: str,
    minimum_visible_fraction: float = MINIMUM_VISIBLE_FRACTION,
) -> Float[Tensor, "1 1 height width"]:
    """Resample a preprocessed X-ray to the camera of a network and standardise it.

    Args:
        image: attenuation.
        camera: the camera that the network was trained with.
        network_name: name of the network in error messages.
        remedy: advice in error messages.
        minimum_visible_fraction: the fraction of the network's image that the X-ray must cover.

    Returns:
        The network's input, on the CPU.

    Raises:
        InputError: the X-ray covers less than `minimum_visible_fraction` of the network's image.
    """
    if image.intensity is not Intensity.ATTENUATION:
        raise ValueError("the network takes attenuation; preprocess the image first")
    resampled = resample(image, camera)
    if float(resampled.mask.float().mean()) < minimum_visible_fraction:
        raise InputError(f"the image shows too little of what {network_name} was trained to see; {remedy}")
    return standardise(resampled.pixels[None].float(), resampled.mask[None])


def standardise(
    attenuation: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Standardise each image by the quantiles of its usable pixels; the other pixels become 0."""
    low, middle, high = _masked_quantiles(attenuation, mask)
    scale = QUANTILE_RANGE_IN_SD / (high - low).clamp_min(1e-6)
    x = (torch.where(mask, attenuation, middle[:, None, None]) - middle[:, None, None]) * scale[:, None, None]
    return x.clamp(-LIMIT, LIMIT)[:, None]


def _masked_quantiles(x: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"]) -> list[Tensor]:
    """`QUANTILES` of the usable pixels of each image; 0 where an image has none."""
    pixels, usable = x.flatten(1)[:, ::_STRIDE], mask.flatten(1)[:, ::_STRIDE]
    ascending = torch.where(usable, pixels, torch.inf).sort(-1).values
    last = (usable.sum(-1, keepdim=True) - 1).clamp_min(0)
    quantiles = [ascending.gather(1, (fraction * last).long())[:, 0] for fraction in QUANTILES]
    return [quantile.nan_to_num(posinf=0.0) for quantile in quantiles]
