"""The numba kernel behind `view_templates.best_shifts`: the best shifts of views from correlations over all shifts."""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached, jit_inline

_LARGEST = np.float32(0.998)  # of r^2


@jit_cached
@no_type_check
def find_peaks(
    product: Any,
    overlap: Any,
    energy_fixed: Any,
    energy_moving: Any,
    every: int,
    least: Any,
    width: int,
    reach: int,
    best: Any,
    pixel: Any,
) -> None:
    """Write the highest peaks of the evidence of each view, `-overlap / 2 log(1 - r^2)`.

    The logarithm is computed only where a bound of it, `r^2 / (1 - r^2)`, exceeds the lowest of the peaks so far.

    Args:
        product: Sum of products of gradients at each shift, [views, height, at least width].
        overlap: Pixels compared, [views, height, at least width], or at every second shift, [views, height // 2 + 1, ...].
        energy_fixed: Sum of the squared gradients of the X-ray in the overlap, likewise.
        energy_moving: That of the view, likewise.
        every: 2 if overlap and energies are given at every second shift, else 1.
        least: Of overlap and both energies at a shift that counts, [3, views].
        width: Shifts of a row that count; odd, like the height.
        reach: A peak is the highest within so many pixels to either side.
        best: Written: evidence, [views, peaks], descending; 0 where a view has fewer peaks.
        pixel: Written: where, (u, v), [views, peaks, 2].
    """
    views, height, _ = product.shape
    peaks = best.shape[1]
    squared, bound = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    compared = np.empty((height, width), np.float32)
    fixed, moving = np.empty(width, np.float32), np.empty(width, np.float32)
    zero, half, one, tiny = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-12)
    for n in range(views):
        least_overlap, least_fixed, least_moving = least[0, n], least[1, n], least[2, n]
        for v in range(height):
            overlap_of_row = compared[v]
            _interpolate(overlap[n], every, v, overlap_of_row)
            _interpolate(energy_fixed[n], every, v, fixed)
            _interpolate(energy_moving[n], every, v, moving)
            p, r2_of_row, bound_of_row = product[n, v], squared[v], bound[v]
            for u in range(width):
                energies = fixed[u] * moving[u]
                r2 = p[u] * p[u] / (energies if energies > tiny else tiny)
                r2 = r2 if r2 < _LARGEST else _LARGEST
                enough = (overlap_of_row[u] >= least_overlap) & (fixed[u] >= least_fixed) & (moving[u] >= least_moving)
                r2 = r2 if enough & (p[u] > zero) else zero
                r2_of_row[u] = r2
            for u in range(width):  # a loop of its own, for the compiler to vectorise both
                bound_of_row[u] = half * overlap_of_row[u] * r2_of_row[u] / (one - r2_of_row[u])
        best[n], pixel[n] = 0, 0
        for v in range(height):
            for u in range(width):
                if bound[v, u] <= best[n, peaks - 1]:
                    continue
                value = _evidence(compared[v, u], squared[v, u])
                if value > best[n, peaks - 1] and _is_highest(value, v, u, bound, compared, squared, reach):
                    _insert(best[n], pixel[n], value, u, v)


@jit_inline
@no_type_check
def _interpolate(given: Any, every: int, v: int, row: Any) -> None:
    """Write one row of an image, of which every row and column is given or every second one."""
    if every == 1:
        row[:] = given[v, : len(row)]
        return
    half, last = np.float32(0.5), len(row) // 2
    above, below = given[v // 2], given[(v + 1) // 2]
    for u in range(last):
        left, right = half * (above[u] + below[u]), half * (above[u + 1] + below[u + 1])
        row[2 * u], row[2 * u + 1] = left, half * (left + right)
    row[2 * last] = half * (above[last] + below[last])


@jit_inline
@no_type_check
def _evidence(overlap: Any, squared: Any) -> Any:
    return np.float32(-0.5) * overlap * np.log1p(-squared)


@jit_inline
@no_type_check
def _is_highest(value: Any, v: int, u: int, bound: Any, overlap: Any, squared: Any, reach: int) -> bool:
    """Whether no shift nearby has more evidence."""
    height, width = bound.shape
    for beside_v in range(max(v - reach, 0), min(v + reach + 1, height)):
        for beside_u in range(max(u - reach, 0), min(u + reach + 1, width)):
            if bound[beside_v, beside_u] <= value:
                continue
            if _evidence(overlap[beside_v, beside_u], squared[beside_v, beside_u]) > value:
                return False
    return True


@jit_inline
@no_type_check
def _insert(best: Any, pixel: Any, value: Any, u: int, v: int) -> None:
    k = len(best) - 1
    while k > 0 and best[k - 1] < value:
        best[k], pixel[k, 0], pixel[k, 1] = best[k - 1], pixel[k - 1, 0], pixel[k - 1, 1]
        k -= 1
    best[k], pixel[k, 0], pixel[k, 1] = value, u, v
