"""Numba kernels that render a strip of an image with its derivatives and sum it up at once, so that no Jacobian is ever stored.

A strip is a few rows of the detector, which stay in the cache. What leaves it are sums: of the residuals' losses, and of the
products of which normal equations consist. The caller adds up the strips.

The border of an image has weight 0 (`masks.eroded`), so no gradient needs a row beyond the image.
"""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached, jit_inline
from fluoro_reg.rendering.backends.numba.kernels import RayViews, VolumeGrid, march_rows
from fluoro_reg.similarity.kernels import TWIST, add_products, gradient_row, mirror

CHANNELS = 1 + TWIST  # the image and its derivatives


@jit_cached
@no_type_check
def sum_gradient_strip(
    grid: VolumeGrid,
    view: RayViews,
    saturation: float,
    target: Any,
    weight: Any,
    fit: tuple[float, float],
    robust_scale: float,
    first_row: int,
    last_row: int,
) -> Any:
    """Sum over the gradients in rows [first_row, last_row) of an image.

    The residuals are `gain g + offset - target` with `fit` = (gain, offset). Sources: `similarity.gradient_ncc`, `residual`.

    Args:
        grid: The volume.
        view: One view of it, with the tangents of a twist.
        saturation: S of the intensity model; 0 for line integrals.
        target: The standardised gradients of the X-ray, [2, height, width].
        weight: Of the pixels, [height, width].
        fit: Gain and offset.
        robust_scale: Geman-McClure's c.
        first_row: First row, 1 or more.
        last_row: End of the rows, at most the height less 1.

    Returns:
        [9, 9] sums of `weight robust_weight x x^T` with x = [dg/dtwist (6), g, 1, residual]; the sum of the losses is added as
        a row, [9, 0].
    """
    strip = _rendered_strip(grid, view, saturation, first_row - 1, last_row + 1, weight.shape[1])
    width = weight.shape[1]
    x, omega, sums = np.empty((9, width), np.float32), np.empty(width, np.float32), np.zeros((10, 9))
    c, gain, offset = np.float32(robust_scale), np.float32(fit[0]), np.float32(fit[1])
    plain = np.isinf(robust_scale)
    for row in range(1, last_row - first_row + 1):
        v, loss = first_row + row - 1, np.float32(0)
        for direction in range(2):
            for p in range(CHANNELS):
                gradient_row(strip[0, p], row, direction, x[TWIST if p == 0 else p - 1])
            for u in range(width):
                residual = gain * x[6, u] + offset - target[direction, v, u]
                squared = residual * residual
                ratio = np.float32(1) if plain else c / (squared + c)
                x[7, u], x[8, u] = np.float32(1), residual
                omega[u] = weight[v, u] * ratio * ratio
                loss += weight[v, u] * squared * ratio
            add_products(x, omega, sums)
        sums[9, 0] += loss
    return mirror(sums, 9)


@jit_cached
@no_type_check
def sum_patch_strip(
    grid: VolumeGrid,
    view: RayViews,
    saturation: float,
    target: Any,
    weight: Any,
    patch_weight: Any,
    robust_scale: float,
    floor: float,
    row_of_patches: int,
    size: tuple[int, int],
) -> Any:
    """Sum over one row of patches of patch NCC. Sources: `similarity.patch_ncc`, `residual`.

    Args:
        grid: The volume.
        view: One view of it, with the tangents of a twist.
        saturation: S of the intensity model; 0 for line integrals.
        target: The X-ray, standardised in each patch, [height, width].
        weight: Of the pixels, normalised in each patch, [height, width].
        patch_weight: Of the patches, normalised, [rows, columns].
        robust_scale: Geman-McClure's c.
        floor: Variance that counts as flat.
        row_of_patches: Which row of patches.
        size: Height and width of a patch.

    Returns:
        [7, 7] sums of `weight x x^T` with x = [dz/dtwist (6), residual]; the sum of the losses is added as a row, [7, 0].
    """
    rows, columns = size
    first, width = row_of_patches * rows, patch_weight.shape[1] * columns
    strip = _rendered_strip(grid, view, saturation, first, first + rows, width)
    sums, x = np.zeros((8, 7)), np.empty((7, columns), np.float32)
    omega = np.empty(columns, np.float32)
    for n in range(patch_weight.shape[1]):
        if patch_weight[row_of_patches, n] == 0:
            continue
        left = n * columns
        window = weight[first : first + rows, left : left + columns]
        wanted = target[first : first + rows, left : left + columns]
        seen = strip[0, :, :, left : left + columns]
        mean, sd = _mean_and_sd(seen[0], window, floor)
        means, slopes = np.zeros(TWIST), np.zeros(TWIST)
        cost = 0.0
        for v in range(rows):
            for u in range(columns):
                z = (seen[0, v, u] - mean) / sd
                cost += window[v, u] * (z - wanted[v, u]) ** 2
                for p in range(TWIST):
                    means[p] += window[v, u] * seen[1 + p, v, u]
                    slopes[p] += window[v, u] * z * seen[1 + p, v, u]
        ratio = 1.0 if np.isinf(robust_scale) else robust_scale / (cost + robust_scale)
        sums[7, 0] += patch_weight[row_of_patches, n] * cost * ratio
        for v in range(rows):
            for u in range(columns):
                z = (seen[0, v, u] - mean) / sd
                for p in range(TWIST):
                    x[p, u] = (seen[1 + p, v, u] - means[p] - z * slopes[p]) / sd
                x[6, u] = z - wanted[v, u]
                omega[u] = window[v, u] * patch_weight[row_of_patches, n] * ratio * ratio
            add_products(x, omega, sums)
    return mirror(sums, 7)


@jit_inline
@no_type_check
def _rendered_strip(grid: VolumeGrid, view: RayViews, saturation: float, first_row: int, last_row: int, width: int) -> Any:
    """Render rows of the moving image and its derivatives, [1, 7, rows, width]."""
    out = np.empty((1, CHANNELS, last_row - first_row, width), np.float32)
    direction, tangent = view.direction.copy(), view.direction_tangent.copy()
    direction[:, :, 2] += first_row * direction[:, :, 1]  # pixel (u, v) of the strip is pixel (u, first_row + v) of the image
    tangent[:, :, :, 2] += first_row * tangent[:, :, :, 1]
    shifted = RayViews(view.view_index, view.source, direction, view.source_tangent, tangent)
    march_rows(grid, shifted, 0, last_row - first_row, out)
    if saturation > 0:
        s = np.float32(saturation)
        for v in range(last_row - first_row):
            for u in range(width):
                passed = np.exp(-s * out[0, 0, v, u])
                out[0, 0, v, u] = np.float32(1) - passed
                for p in range(1, CHANNELS):
                    out[0, p, v, u] *= s * passed
    return out


@jit_inline
@no_type_check
def _mean_and_sd(values: Any, weight: Any, floor: float) -> tuple[float, float]:
    mean = 0.0
    for v in range(values.shape[0]):
        for u in range(values.shape[1]):
            mean += weight[v, u] * values[v, u]
    variance = floor
    for v in range(values.shape[0]):
        for u in range(values.shape[1]):
            variance += weight[v, u] * (values[v, u] - mean) ** 2
    return mean, np.sqrt(variance)
