"""The small picture on which an X-ray is judged.

Where the collimator is, which way the greys run, whether there is anatomy at all: none of it needs more than some 96 pixels
a side, and at that size averaging has removed most of the noise. All judgements take a `CoarseImage`; only the logarithm
touches every pixel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

COARSE_SIZE = 96


@dataclass(frozen=True, slots=True)
class CoarseImage:
    """Blocks of `factor` x `factor` pixels: mean, least and greatest of the usable, and whether half of each is."""

    mean: Float[np.ndarray, "rows columns"]
    low: Float[np.ndarray, "rows columns"]
    high: Float[np.ndarray, "rows columns"]
    usable: Bool[np.ndarray, "rows columns"]
    factor: int


def coarse_image(pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> CoarseImage:
    """Blocks that make the longer side about `COARSE_SIZE`; incomplete blocks at the end are dropped."""
    factor = max(1, round(max(pixels.shape) / COARSE_SIZE))
    if bool(mask.all()):
        blocks = _blocks(pixels, factor)
        mean, low, high = blocks.mean(1).mean(-1), blocks.amin(1).amin(-1), blocks.amax(1).amax(-1)
        usable = torch.ones(mean.shape, dtype=torch.bool)
    else:
        mean, low, high, usable = _of_usable(pixels, mask, factor)
    return CoarseImage(mean.numpy(), low.numpy(), high.numpy(), usable.numpy(), factor)


def _of_usable(
    pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"], factor: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Statistics of usable pixels alone; blocks without any take the least usable value, so that nothing masked is seen."""
    least = pixels[mask].min() if bool(mask.any()) else pixels.new_zeros(())
    counted = _blocks(mask, factor).sum(1).sum(-1)
    some = counted > 0
    total = _blocks(torch.where(mask, pixels, 0.0), factor).sum(1).sum(-1)
    low = _blocks(torch.where(mask, pixels, torch.inf), factor).amin(1).amin(-1)
    high = _blocks(torch.where(mask, pixels, -torch.inf), factor).amax(1).amax(-1)
    mean, low, high = (torch.where(some, value, least) for value in (total / counted.clamp_min(1), low, high))
    return mean, low, high, counted * 2 >= factor * factor


def _blocks(image: Shaped[Tensor, "height width"], factor: int) -> Shaped[Tensor, "rows factor columns factor"]:
    """A view by blocks; reduced along rows first, then along columns, which keeps both passes contiguous."""
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    return image[: rows * factor, : columns * factor].unflatten(1, (columns, factor)).unflatten(0, (rows, factor))


def enlarged(
    blocks: Bool[np.ndarray, "rows columns"], factor: int, height: int, width: int
) -> Bool[np.ndarray, "height width"]:
    """Every block as its `factor` x `factor` pixels; pixels beyond the last whole block follow it."""
    full = np.repeat(np.repeat(blocks, factor, axis=0), factor, axis=1)
    return np.pad(full, ((0, height - full.shape[0]), (0, width - full.shape[1])), mode="edge")
