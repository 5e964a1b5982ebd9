"""Numba kernels of gradient NCC: image gradients, their standardisation, and sums of their products, in single precision.

The same functions serve whole images here and strips of images in `registration.tracking.kernels`.
"""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached, jit_inline

TWIST = 6


@jit_cached
@no_type_check
def sum_gradient_products(moving: Any, jacobian: Any, target: Any, weight: Any, floor: float, robust_scale: float) -> Any:
    """Sum over an image what the normal equations of gradient NCC consist of.

    Args:
        moving: The moving image, [height, width].
        jacobian: Its derivatives, [6, height, width].
        target: The standardised gradients of the fixed image, [2, height, width].
        weight: Weights of the gradients, which sum to one over both directions, [2, height, width].
        floor: Variance that counts as flat.
        robust_scale: Geman-McClure's c.

    Returns:
        [11, 9]: sums of `weight robust_weight x x^T` with x = [dg/dtwist (6), z, 1, residual]; then `weight dg/dtwist` and
        `weight z dg/dtwist` in two rows. The sum of the losses is in [9, 8], the standard deviation in [10, 8].
    """
    height, width = moving.shape
    x, omega, sums = np.empty((9, width), np.float32), np.empty(width, np.float32), np.zeros((11, 9))
    mean_g, sd = gradient_statistics(moving, weight, floor, x[6])
    mean, inverse_sd, c = np.float32(mean_g), np.float32(1 / sd), np.float32(robust_scale)
    sums[10, 8], plain = sd, np.isinf(robust_scale)
    for v in range(height):
        for direction in range(2):
            w = weight[direction, v]
            gradient_row(moving, v, direction, x[6])
            for p in range(TWIST):
                gradient_row(jacobian[p], v, direction, x[p])
            loss = np.float32(0)
            for u in range(width):
                z = (x[6, u] - mean) * inverse_sd
                residual = z - target[direction, v, u]
                squared = residual * residual
                ratio = np.float32(1) if plain else c / (squared + c)
                x[6, u], x[7, u], x[8, u] = z, np.float32(1), residual
                omega[u] = w[u] * ratio * ratio
                loss += w[u] * squared * ratio
            sums[9, 8] += loss
            for p in range(TWIST):
                flat, along = np.float32(0), np.float32(0)
                for u in range(width):
                    flat += w[u] * x[p, u]
                    along += w[u] * x[6, u] * x[p, u]
                sums[9, p] += flat
                sums[10, p] += along
            add_products(x, omega, sums)
    return mirror(sums, 9)


@jit_cached
@no_type_check
def sum_gradient_losses(moving: Any, target: Any, weight: Any, floor: float, robust_scale: float) -> tuple[float, float]:
    """Return the sum of the losses, as in [9, 8] of `sum_gradient_products`, and the correlation, without derivatives."""
    height, width = moving.shape
    row = np.empty(width, np.float32)
    mean_g, sd = gradient_statistics(moving, weight, floor, row)
    mean, inverse_sd, c = np.float32(mean_g), np.float32(1 / sd), np.float32(robust_scale)
    plain, loss, correlation = np.isinf(robust_scale), 0.0, 0.0
    for v in range(height):
        for direction in range(2):
            w, t = weight[direction, v], target[direction, v]
            gradient_row(moving, v, direction, row)
            row_loss, row_correlation = np.float32(0), np.float32(0)
            for u in range(width):
                z = (row[u] - mean) * inverse_sd
                squared = (z - t[u]) * (z - t[u])
                row_loss += w[u] * squared * (np.float32(1) if plain else c / (squared + c))
                row_correlation += w[u] * z * t[u]
            loss += row_loss
            correlation += row_correlation
    return loss, correlation


@jit_cached
@no_type_check
def image_gradients(image: Any, used: Any, maximum_sample: int) -> tuple[Any, Any]:
    """Return the gradients of an image, [2, height, width], and a sample of their absolute values at the pixels in `used`."""
    height, width = image.shape
    gradients, total = np.empty((2, height, width), np.float32), 0
    for v in range(height):
        for direction in range(2):
            gradient_row(image, v, direction, gradients[direction, v])
        for u in range(width):
            total += 2 * used[v, u]
    step = max(1, total // maximum_sample)
    sample, n = np.empty((total + step - 1) // step, np.float32), 0
    for direction in range(2):
        for v in range(height):
            for u in range(width):
                if used[v, u]:
                    if n % step == 0:
                        sample[n // step] = abs(gradients[direction, v, u])
                    n += 1
    return gradients, sample


@jit_cached
@no_type_check
def standardise_gradients(gradients: Any, limit: float, weight: Any, floor: float, target: Any, weights: Any) -> None:
    """Clip gradients at +-`limit` and standardise them under the weights of the pixels.

    Args:
        gradients: [2, height, width].
        limit: Where to clip.
        weight: Of the pixels, [height, width].
        floor: Variance that counts as flat.
        target: Written: z-scores, [2, height, width].
        weights: Written: the weights that sum to one over both directions, [2, height, width].
    """
    _, height, width = gradients.shape
    total, first, second = 0.0, 0.0, 0.0
    low, high = np.float32(-limit), np.float32(limit)
    for direction in range(2):
        for v in range(height):
            row_total, row_first = np.float32(0), np.float32(0)
            for u in range(width):
                g = min(max(gradients[direction, v, u], low), high)
                target[direction, v, u] = g
                row_total += weight[v, u]
                row_first += weight[v, u] * g
            total += row_total
            first += row_first
    scale = np.float32(1 / max(total, 1e-12))
    mean = np.float32(first * scale)
    for direction in range(2):
        for v in range(height):
            row_second = np.float32(0)
            for u in range(width):
                w, centred = weight[v, u] * scale, target[direction, v, u] - mean
                weights[direction, v, u] = w
                target[direction, v, u] = centred
                row_second += w * centred * centred
            second += row_second
    inverse_sd = np.float32(1 / np.sqrt(second + floor))
    for direction in range(2):
        for v in range(height):
            for u in range(width):
                target[direction, v, u] *= inverse_sd


@jit_inline
@no_type_check
def gradient_statistics(moving: Any, weight: Any, floor: float, row: Any) -> tuple[float, float]:
    """Return mean and standard deviation of an image's gradients under weights that sum to one."""
    mean, square = 0.0, 0.0
    for v in range(moving.shape[0]):
        for direction in range(2):
            gradient_row(moving, v, direction, row)
            first, second = np.float32(0), np.float32(0)
            for u in range(moving.shape[1]):
                first += weight[direction, v, u] * row[u]
                second += weight[direction, v, u] * row[u] * row[u]
            mean += first
            square += second
    return mean, np.sqrt(max(square - mean * mean, 0.0) + floor)


@jit_inline
@no_type_check
def gradient_row(image: Any, row: int, direction: int, out: Any) -> None:
    """Write Sobel / 8 of a row along columns (direction 0) or rows (1); the edges of the image are replicated."""
    height, width = image.shape
    above, here, below = image[max(row - 1, 0)], image[row], image[min(row + 1, height - 1)]
    eighth, last = np.float32(0.125), width - 1
    if direction == 0:
        for u in range(1, last):
            right = above[u + 1] + 2 * here[u + 1] + below[u + 1]
            out[u] = eighth * (right - (above[u - 1] + 2 * here[u - 1] + below[u - 1]))
        for u in (0, last):
            a, b = max(u - 1, 0), min(u + 1, last)
            out[u] = eighth * (above[b] + 2 * here[b] + below[b] - (above[a] + 2 * here[a] + below[a]))
    else:
        for u in range(1, last):
            lower = below[u - 1] + 2 * below[u] + below[u + 1]
            out[u] = eighth * (lower - (above[u - 1] + 2 * above[u] + above[u + 1]))
        for u in (0, last):
            a, b = max(u - 1, 0), min(u + 1, last)
            out[u] = eighth * (below[a] + 2 * below[u] + below[b] - (above[a] + 2 * above[u] + above[b]))


@jit_inline
@no_type_check
def add_products(x: Any, omega: Any, sums: Any) -> None:
    """Add `sum_u omega x x^T` to the lower triangle."""
    n, width = x.shape
    weighted = np.empty(width, np.float32)
    for p in range(n):
        for u in range(width):
            weighted[u] = omega[u] * x[p, u]
        for q in range(p + 1):
            total = np.float32(0)
            for u in range(width):
                total += weighted[u] * x[q, u]
            sums[p, q] += total


@jit_inline
@no_type_check
def mirror(sums: Any, n: int) -> Any:
    """Copy the lower triangle of the first n rows to the upper."""
    for p in range(n):
        for q in range(p):
            sums[q, p] = sums[p, q]
    return sums
