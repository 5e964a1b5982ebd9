"""Local means of images. Relative to them, what changes over long distances, as soft tissue does, has no say.

The cost does not depend on the reach: a running sum along rows is followed by one along columns, both in float64, so that they
do not drift.
"""

import math
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.compiled import jit_cached
from fluoro_reg.rendering.threads import parallel_for


def local_mean(
    values: Float[Tensor, "batch height width *channels"], reach_px: int
) -> Float[Tensor, "batch height width *channels"]:
    """The mean over a square that extends `reach_px` to either side of each pixel, as far as it lies in the image."""
    of_pixels = values.reshape(*values.shape[:3], math.prod(values.shape[3:])).contiguous().numpy()
    means = np.empty_like(of_pixels)

    def average(first: int, last: int) -> None:
        average_squares(of_pixels[first:last], reach_px, means[first:last])

    parallel_for(average, len(of_pixels))
    return torch.from_numpy(means).reshape(values.shape)


@jit_cached
@no_type_check
def average_squares(values: Any, reach: int, means: Any) -> None:
    """Write the mean over the square around each pixel.

    Args:
        values: [batch, height, width, channels].
        reach: Pixels to either side.
        means: Written, of the same shape.
    """
    batch, height, width, channels = values.shape
    of_rows = np.empty((height, width, channels), np.float64)
    along, across = np.empty(channels, np.float64), np.empty((width, channels), np.float64)
    for n in range(batch):
        for v in range(height):
            along[:] = 0.0
            for u in range(-reach, width):
                if u + reach < width:
                    for c in range(channels):
                        along[c] += values[n, v, u + reach, c]
                if u > reach:
                    for c in range(channels):
                        along[c] -= values[n, v, u - reach - 1, c]
                if u >= 0:
                    for c in range(channels):
                        of_rows[v, u, c] = along[c]
        across[:] = 0.0
        for v in range(-reach, height):
            if v + reach < height:
                across += of_rows[v + reach]
            if v > reach:
                across -= of_rows[v - reach - 1]
            if v >= 0:
                rows = min(v + reach, height - 1) - max(v - reach, 0) + 1
                for u in range(width):
                    columns = min(u + reach, width - 1) - max(u - reach, 0) + 1
                    for c in range(channels):
                        means[n, v, u, c] = across[u, c] / (rows * columns)
