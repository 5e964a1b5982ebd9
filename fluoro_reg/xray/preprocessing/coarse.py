"""`CoarseImage`: a downsampled X-ray, on which its properties are estimated.

Finding the collimator, inferring the polarity and detecting frames without anatomy needs no more than about 96 pixels per side.
At that size, averaging has removed most of the noise. Only the logarithm is computed for every pixel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

COARSE_SIZE = 96


@dataclass(frozen=True, slots=True)
class CoarseImage:
    """Blocks of `factor` x `factor` pixels: mean, minimum and maximum of usable pixels; `usable` where at least half are."""

    mean: Float[np.ndarray, "rows columns"]
    low: Float[np.ndarray, "rows columns"]
    high: Float[np.ndarray, "rows columns"]
    usable: Bool[np.ndarray, "rows columns"]
    factor: int


def coarse_image(pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> CoarseImage:
    """Downsample an image so that the longer side has about `COARSE_SIZE` blocks; incomplete blocks are dropped."""
    factor = max(1, round(max(pixels.shape) / COARSE_SIZE))
    if bool(mask.all()):
        blocks = _blocks(pixels, factor)
        mean, low, high = blocks.mean(1).mean(-1), blocks.amin(1).amin(-1), blocks.amax(1).amax(-1)
        usable = torch.ones(mean.shape, dtype=torch.bool)
    else:
        mean, low, high, usable = _usable_statistics(pixels, mask, factor)
    return CoarseImage(mean.numpy(), low.numpy(), high.numpy(), usable.numpy(), factor)


def _usable_statistics(
    pixels: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"], factor: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the statistics over usable pixels; a block without any gets the minimum of all usable pixels."""
    minimum = pixels[mask].min() if bool(mask.any()) else pixels.new_zeros(())
    n_usable = _blocks(mask, factor).sum(1).sum(-1)
    any_usable = n_usable > 0
    total = _blocks(torch.where(mask, pixels, 0.0), factor).sum(1).sum(-1)
    low = _blocks(torch.where(mask, pixels, torch.inf), factor).amin(1).amin(-1)
    high = _blocks(torch.where(mask, pixels, -torch.inf), factor).amax(1).amax(-1)
    mean, low, high = (torch.where(any_usable, value, minimum) for value in (total / n_usable.clamp_min(1), low, high))
    return mean, low, high, n_usable * 2 >= factor * factor


def _blocks(image: Shaped[Tensor, "height width"], factor: int) -> Shaped[Tensor, "rows factor columns factor"]:
    """Return a view by blocks. Reduce it along rows first and then along columns, so that both passes are contiguous."""
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    return image[: rows * factor, : columns * factor].unflatten(1, (columns, factor)).unflatten(0, (rows, factor))


def enlarge_blocks(
    blocks: Bool[np.ndarray, "rows columns"], factor: int, height: int, width: int
) -> Bool[np.ndarray, "height width"]:
    """Expand each block to `factor` x `factor` pixels; pixels beyond the last complete block repeat its value."""
    full = np.repeat(np.repeat(blocks, factor, axis=0), factor, axis=1)
    return np.pad(full, ((0, height - full.shape[0]), (0, width - full.shape[1])), mode="edge")
