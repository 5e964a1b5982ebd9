"""What the network sees of an image: attenuation about its median, in units of its spread, cut at `LIMIT` of them.

Gain and offset of an X-ray say nothing of the pose, and neither does a tool that is ten times as dense as bone, which would
squeeze all else into nothing if mean and standard deviation were taken: hence quantiles. X-rays, real ones and those of
trainings, pass through this one function, so that they look alike to the network. What may not be used is 0, the median.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.resample import resample

MINIMUM_SEEN = 0.1  # share of a network's image that an X-ray must show, if nothing else is said
LIMIT = 3.0
QUANTILES = (0.1, 0.5, 0.9)
SPREAD_IN_SD = 2.563  # from the lowest to the highest of these in a normal distribution
_STRIDE = 5  # every fifth pixel is enough


def input_of(
    image: XrayImage, camera: CameraIntrinsics, network: str, otherwise: str, minimum_visible: float = MINIMUM_SEEN
) -> Float[Tensor, "1 1 height width"]:
    """What a network that knows one camera sees of a preprocessed X-ray; on the CPU.

    Raises:
        InputError: it shows less there than the share `minimum_visible`; the sentence says of which `network`, and what to do
            `otherwise`.
    """
    if image.intensity is not Intensity.ATTENUATION:
        raise ValueError("the network sees attenuation; preprocess the image first")
    seen = resample(image, camera)
    if float(seen.mask.float().mean()) < minimum_visible:
        raise InputError(f"the image shows too little of what {network} was trained to see; {otherwise}")
    return network_input(seen.pixels[None].float(), seen.mask[None])


def network_input(
    attenuation: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Standardised over the usable pixels."""
    low, middle, high = _quantiles(attenuation, mask)
    scale = SPREAD_IN_SD / (high - low).clamp_min(1e-6)
    x = (torch.where(mask, attenuation, middle[:, None, None]) - middle[:, None, None]) * scale[:, None, None]
    return x.clamp(-LIMIT, LIMIT)[:, None]


def _quantiles(x: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"]) -> list[Tensor]:
    """Of the usable pixels of each image; zeros where there is none."""
    pixels, usable = x.flatten(1)[:, ::_STRIDE], mask.flatten(1)[:, ::_STRIDE]
    ascending = torch.where(usable, pixels, torch.inf).sort(-1).values
    last = (usable.sum(-1, keepdim=True) - 1).clamp_min(0)
    found = [ascending.gather(1, (share * last).long())[:, 0] for share in QUANTILES]
    return [value.nan_to_num(posinf=0.0) for value in found]
