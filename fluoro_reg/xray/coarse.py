"""The small picture on which an X-ray is judged.

Where the collimator is, which way the greys run, whether there is anatomy at all: none of it needs more than some 128 pixels
a side, and at that size averaging has removed most of the noise. All judgements take a `CoarseImage`; only the logarithm
touches every pixel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

COARSE_SIZE = 128


@dataclass(frozen=True, slots=True)
class CoarseImage:
    """Blocks of `factor` x `factor` pixels: their mean, least and greatest value, and whether half of each may be used."""

    mean: Float[np.ndarray, "rows columns"]
    low: Float[np.ndarray, "rows columns"]
    high: Float[np.ndarray, "rows columns"]
    usable: Bool[np.ndarray, "rows columns"]
    factor: int


def coarse_image(pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> CoarseImage:
    """Blocks that make the longer side about `COARSE_SIZE`; incomplete blocks at the end are dropped."""
    factor = max(1, round(max(pixels.shape) / COARSE_SIZE))
    blocks = pixels[None, None]
    mean = torch.nn.functional.avg_pool2d(blocks, factor)[0, 0]
    high = torch.nn.functional.max_pool2d(blocks, factor)[0, 0]
    low = -torch.nn.functional.max_pool2d(-blocks, factor)[0, 0]
    if bool(mask.all()):
        usable = torch.ones(mean.shape, dtype=torch.bool)
    else:
        usable = torch.nn.functional.avg_pool2d(mask[None, None].to(torch.float32), factor)[0, 0] >= 0.5
    return CoarseImage(mean.numpy(), low.numpy(), high.numpy(), usable.numpy(), factor)


def enlarged(
    blocks: Bool[np.ndarray, "rows columns"], factor: int, height: int, width: int
) -> Bool[np.ndarray, "height width"]:
    """Every block as its `factor` x `factor` pixels; pixels beyond the last whole block follow it."""
    full = np.repeat(np.repeat(blocks, factor, axis=0), factor, axis=1)
    return np.pad(full, ((0, height - full.shape[0]), (0, width - full.shape[1])), mode="edge")
