"""Numba kernels over the pixels of an X-ray, each in one pass through memory."""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached


@jit_cached
@no_type_check
def bin_usable(pixels: Any, usable: Any, factor: int, mean: Any, enough: Any) -> None:
    """Average the usable pixels of blocks of factor x factor pixels; incomplete blocks are dropped.

    Args:
        pixels: [height, width].
        usable: Which of them count, [height, width].
        factor: Side of a block.
        mean: Written, [rows, columns]; 0 without any usable pixel.
        enough: Written: whether at least half of a block is usable, [rows, columns].
    """
    rows, columns = mean.shape
    total, count = np.empty(columns, pixels.dtype), np.empty(columns, np.int64)
    for row in range(rows):
        total[:] = 0
        count[:] = 0
        for v in range(row * factor, (row + 1) * factor):
            for column in range(columns):
                for u in range(column * factor, (column + 1) * factor):
                    if usable[v, u]:
                        total[column] += pixels[v, u]
                        count[column] += 1
        for column in range(columns):
            mean[row, column] = total[column] / max(count[column], 1)
            enough[row, column] = 2 * count[column] >= factor * factor


@jit_cached
@no_type_check
def smallest_gap(ascending: Any) -> float:
    """Return the smallest difference above 0 between neighbours of sorted values; 0 if all are equal."""
    smallest = np.inf
    for n in range(1, len(ascending)):
        gap = ascending[n] - ascending[n - 1]
        if 0 < gap < smallest:
            smallest = gap
    return smallest if smallest < np.inf else 0.0
