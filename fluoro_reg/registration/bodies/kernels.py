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
    moving: Any, jacobians: Any, windows: Any, target: Any, weight: Any, floor: float, robust_scale: float
) -> Any:
    """Sum over an image what the normal equations of gradient NCC consist of, as `sum_gradient_products` does.

    Args:
        moving: The image of all bodies, [height, width].
        jacobians: The derivatives to the twist of each body in its window, [6, height, width] of each, one after the other.
        windows: First column and row, width and height of the window of each body, [bodies, 4]. Its outermost pixels are zero
            unless they are those of the image.
        target: The standardised gradients of the fixed image, [2, height, width].
        weight: Weights of the gradients, which sum to one over both directions, [2, height, width].
        floor: Variance that counts as flat.
        robust_scale: Geman-McClure's c.

    Returns:
        [n + 5, n + 3] with n = 6 bodies, laid out as those of `sum_gradient_products`.
    """
    height, width = moving.shape
    bodies, n = len(windows), TWIST * len(windows)
    x, omega, weighted = np.zeros((n, width), np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    of_all, sums = np.empty((3, width), np.float32), np.zeros((n + 5, n + 3))
    mean_g, sd = gradient_statistics(moving, weight, floor, of_all[0])
    mean, inverse_sd, c = np.float32(mean_g), np.float32(1 / sd), np.float32(robust_scale)
    sums[n + 4, n + 2], plain = sd, np.isinf(robust_scale)
    active, begins = np.empty(bodies, np.int64), np.zeros(bodies, np.int64)
    for body in range(1, bodies):
        begins[body] = begins[body - 1] + TWIST * windows[body - 1, 2] * windows[body - 1, 3]
    for v in range(height):
        count = 0
        for body in range(bodies):
            if windows[body, 2] > 0 and windows[body, 1] <= v < windows[body, 1] + windows[body, 3]:
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
                left, top, columns, rows = windows[body, 0], windows[body, 1], windows[body, 2], windows[body, 3]
                begin, size, right = begins[body], rows * columns, left + columns
                for k in range(TWIST):
                    p = TWIST * body + k
                    image = jacobians[begin + k * size : begin + (k + 1) * size].reshape((rows, columns))
                    gradient_row(image, v - top, direction, x[p, left:right])
                    _weigh(x[p, left:right], omega[left:right], weighted[left:right])
                    sums[n + 3, p] += _product(w[left:right], x[p, left:right])
                    sums[n + 4, p] += _product_of_three(w[left:right], of_all[0, left:right], x[p, left:right])
                    for q in range(3):
                        sums[n + q, p] += _product(weighted[left:right], of_all[q, left:right])
                    for b in range(a + 1):
                        other = active[b]
                        first, last = max(left, windows[other, 0]), min(right, windows[other, 0] + windows[other, 2])
                        if first < last:
                            for q in range(TWIST * other, min(TWIST * other + TWIST, p + 1)):
                                sums[p, q] += _product(weighted[first:last], x[q, first:last])
    return mirror(sums, n + 3)


@jit_cached
@no_type_check
def robust_gain(fixed: Any, moving: Any, weight: Any, iterations: int, robust_scale: float) -> float:
    """Return the factor by which gradients fit those of the X-ray, both [2, height, width], with robust weights; 0 without any.

    Every fit but the first counts residuals by Geman-McClure's weights, with c in units of their variance at the last factor.
    """
    gain, inverse_variance, total = 0.0, 0.0, 2 * max(weight.sum(), 0.5)
    for _ in range(iterations):
        energy, product = 0.0, 0.0
        for direction in range(2):
            for v in range(weight.shape[0]):
                for u in range(weight.shape[1]):
                    m, f = moving[direction, v, u], fixed[direction, v, u]
                    residual = f - gain * m
                    ratio = robust_scale / (residual * residual * inverse_variance + robust_scale)
                    omega = weight[v, u] * ratio * ratio
                    energy += omega * m * m
                    product += omega * m * f
        if not energy > 0:
            return 0.0
        gain, squares = product / energy, 0.0
        for direction in range(2):
            for v in range(weight.shape[0]):
                for u in range(weight.shape[1]):
                    residual = fixed[direction, v, u] - gain * moving[direction, v, u]
                    squares += weight[v, u] * residual * residual
        inverse_variance = 1 / max(squares / total, 1e-20)
    return gain


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
def _weigh(values: Any, weight: Any, out: Any) -> None:
    for u in range(len(values)):
        out[u] = weight[u] * values[u]


@jit_inline
@no_type_check
def _product(first: Any, second: Any) -> Any:
    total = np.float32(0)
    for u in range(len(first)):
        total += first[u] * second[u]
    return total


@jit_inline
@no_type_check
def _product_of_three(first: Any, second: Any, third: Any) -> Any:
    total = np.float32(0)
    for u in range(len(first)):
        total += first[u] * second[u] * third[u]
    return total
