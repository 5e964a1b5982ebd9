"""The sums of the normal equations of several bodies, in one compiled pass over an image.

A body's derivatives are zero outside of its window, and those of two bodies meet only where their windows do. A dense product
of all columns, 24 for four bodies, would mostly multiply zeros.
"""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached, jit_inline
from fluoro_reg.similarity.kernels import TWIST, gradient_row, gradient_statistics, mirror


@jit_cached
@no_type_check
def sum_body_products(
    moving: Any, jacobian: Any, windows: Any, target: Any, weight: Any, floor: float, robust_scale: float
) -> Any:
    """Sum over an image what the normal equations of gradient NCC consist of, as `sum_gradient_products` does.

    Args:
        moving: The image of all bodies, [height, width].
        jacobian: Its derivatives to the twists of all bodies, [6 bodies, height, width].
        windows: First and last column, first and last row outside of which a body's gradients are zero, [bodies, 4]; a body
            that is not in the image has a last column before its first.
        target: The standardised gradients of the fixed image, [2, height, width].
        weight: Weights of the gradients, which sum to one over both directions, [2, height, width].
        floor: Variance that counts as flat.
        robust_scale: Geman-McClure's c.

    Returns:
        [n + 5, n + 3] with n = 6 bodies, laid out as those of `sum_gradient_products`.
    """
    height, width = moving.shape
    bodies, n = len(windows), len(jacobian)
    x, omega, weighted = np.zeros((n, width), np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    of_all, sums = np.empty((3, width), np.float32), np.zeros((n + 5, n + 3))
    mean_g, sd = gradient_statistics(moving, weight, floor, of_all[0])
    mean, inverse_sd, c = np.float32(mean_g), np.float32(1 / sd), np.float32(robust_scale)
    sums[n + 4, n + 2], plain = sd, np.isinf(robust_scale)
    active = np.empty(bodies, np.int64)
    for v in range(height):
        count = 0
        for body in range(bodies):
            if windows[body, 0] <= windows[body, 1] and windows[body, 2] <= v <= windows[body, 3]:
                active[count] = body
                count += 1
        for direction in range(2):
            w = weight[direction, v]
            gradient_row(moving, v, direction, of_all[0])
            loss = np.float32(0)
            for u in range(width):
                z = (of_all[0, u] - mean) * inverse_sd
                residual = z - target[direction, v, u]
                squared = residual * residual
                ratio = np.float32(1) if plain else c / (squared + c)
                of_all[0, u], of_all[1, u], of_all[2, u] = z, np.float32(1), residual
                omega[u] = w[u] * ratio * ratio
                loss += w[u] * squared * ratio
            sums[n + 3, n + 2] += loss
            _add_all(of_all, omega, n, sums)
            for a in range(count):
                body = active[a]
                left, right = windows[body, 0], windows[body, 1]
                for p in range(TWIST * body, TWIST * body + TWIST):
                    _gradient_part(jacobian[p], v, direction, left, right, x[p])
                    flat, along = np.float32(0), np.float32(0)
                    for u in range(left, right + 1):
                        flat += w[u] * x[p, u]
                        along += w[u] * of_all[0, u] * x[p, u]
                        weighted[u] = omega[u] * x[p, u]
                    sums[n + 3, p] += flat
                    sums[n + 4, p] += along
                    for q in range(3):
                        sums[n + q, p] += _product(weighted, of_all[q], left, right)
                    for b in range(a + 1):
                        other = active[b]
                        first, last = max(left, windows[other, 0]), min(right, windows[other, 1])
                        for q in range(TWIST * other, min(TWIST * other + TWIST, p + 1)):
                            sums[p, q] += _product(weighted, x[q], first, last)
    return mirror(sums, n + 3)


@jit_inline
@no_type_check
def _add_all(of_all: Any, omega: Any, n: int, sums: Any) -> None:
    """Add the products of z, 1 and the residual with each other."""
    for p in range(3):
        for q in range(p + 1):
            total = np.float32(0)
            for u in range(len(omega)):
                total += omega[u] * of_all[p, u] * of_all[q, u]
            sums[n + p, n + q] += total


@jit_inline
@no_type_check
def _product(first: Any, second: Any, left: int, right: int) -> Any:
    total = np.float32(0)
    for u in range(left, right + 1):
        total += first[u] * second[u]
    return total


@jit_inline
@no_type_check
def _gradient_part(image: Any, row: int, direction: int, left: int, right: int, out: Any) -> None:
    """Write a part of a row of `gradient_row`."""
    height, width = image.shape
    above, here, below = image[max(row - 1, 0)], image[row], image[min(row + 1, height - 1)]
    eighth = np.float32(0.125)
    for u in range(left, right + 1):
        a, b = max(u - 1, 0), min(u + 1, width - 1)
        if direction == 0:
            out[u] = eighth * (above[b] + 2 * here[b] + below[b] - (above[a] + 2 * here[a] + below[a]))
        else:
            out[u] = eighth * (below[a] + 2 * below[u] + below[b] - (above[a] + 2 * above[u] + above[b]))
