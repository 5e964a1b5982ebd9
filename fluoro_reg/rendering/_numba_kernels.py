"""The march through the volume, for numba: Joseph's quadrature with the moments of each ray.

A ray steps from plane to plane along one axis m of the grid and takes one bilinear sample per plane in the other two, a and
c. With slopes `ma = da/dm`, `mc = dc/dm` a step is `e = (1, ma, mc)` voxels, `w = sqrt(e^T G e)` mm long, where G is the grid's
metric; the integral is w times the sum of samples. As m never enters a sample's weights, derivatives need only the samples'
in-plane gradients (ga, gc) and their first moments in the plane number; the rest is algebra once a ray.
Source: P. M. Joseph, IEEE Trans. Med. Imaging 1(3), 1982.

Everything arrives in the order (m, a, c), m contiguous in memory, padded by one voxel of air before the grid and by two after
it, so that a sample at the far face (rounding included) needs no bounds check. Where a ray is and
enters is float64; only the sums are float32, relative to the ray's first plane, or a source a metre away would cost their
digits.

Plain functions that release the GIL, not numba's `parallel`: its threading layers die in forked children and when two Python
threads enter (`fluoro_reg.rendering._threads` shares the rows out instead).
"""

import math
from typing import Any

import numpy as np
from numba import njit, uint32

# No "nnan" or "ninf": slopes of rays along a plane may be infinite, and comparisons with them must hold.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_compiled: Any = njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
_inlined: Any = njit(nogil=True, inline="always", error_model="numpy", fastmath=_FAST)

PAD_BEFORE, PAD_AFTER = 1, 2


@_inlined
def _planes(s, d, shape):
    """First plane and number of planes with t > 0 within the padded grid; slopes along a and c."""
    slope_a, slope_c = d[1] / d[0], d[2] / d[0]
    low, high = 1.0, shape[0] - 3.0
    if d[0] > 0:
        low = max(low, s[0])
    elif d[0] < 0:
        high = min(high, s[0])
    else:
        high = 0.0
    for axis, slope in ((1, slope_a), (2, slope_c)):
        last = shape[axis] - 2.0
        if abs(slope) < 1e-12:
            if s[axis] < 0.0 or s[axis] > last:
                high = 0.0
        else:
            one, two = s[0] - s[axis] / slope, s[0] + (last - s[axis]) / slope
            low, high = max(low, min(one, two)), min(high, max(one, two))
    if not high >= low:
        return 1, 0, slope_a, slope_c
    first = math.ceil(low)
    return first, math.floor(high) - first + 1, slope_a, slope_c


@_inlined
def _sum(volume, shape, first, count, a, c, slope_a, slope_c):
    """Sum of the samples of a ray that is at (a, c) in its first plane."""
    stride_a, stride_c = uint32(shape[0]), uint32(shape[0] * shape[1])
    total = np.float32(0)
    for step in range(count):
        j = np.float32(step)
        x, y = a + j * slope_a, c + j * slope_c
        ix, iy = np.int32(x), np.int32(y)
        fx, fy = x - np.float32(ix), y - np.float32(iy)
        i = uint32(uint32(ix) * stride_a + uint32(iy) * stride_c + uint32(first + step))
        v00, v10 = volume[i], volume[uint32(i + stride_a)]
        v01, v11 = volume[uint32(i + stride_c)], volume[uint32(i + stride_a + stride_c)]
        near, far = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
        total += near + fy * (far - near)
    return total


@_inlined
def _sums(volume, shape, first, count, a, c, slope_a, slope_c):
    """As `_sum`, with the sums of the samples' gradients along a and c, and of those times the number of steps."""
    stride_a, stride_c = uint32(shape[0]), uint32(shape[0] * shape[1])
    total, ga, gc, ja, jc = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for step in range(count):
        j = np.float32(step)
        x, y = a + j * slope_a, c + j * slope_c
        ix, iy = np.int32(x), np.int32(y)
        fx, fy = x - np.float32(ix), y - np.float32(iy)
        i = uint32(uint32(ix) * stride_a + uint32(iy) * stride_c + uint32(first + step))
        v00, v10 = volume[i], volume[uint32(i + stride_a)]
        v01, v11 = volume[uint32(i + stride_c)], volume[uint32(i + stride_a + stride_c)]
        near_a, far_a = v10 - v00, v11 - v01
        near, far = v00 + fx * near_a, v01 + fx * far_a
        along_c = far - near
        along_a = near_a + fy * (far_a - near_a)
        total += near + fy * along_c
        ga += along_a
        gc += along_c
        ja += j * along_a
        jc += j * along_c
    return total, ga, gc, ja, jc


@_inlined
def _direction(m, u, v):
    d0 = m[0, 0] * u + m[0, 1] * v + m[0, 2]
    d1 = m[1, 0] * u + m[1, 1] * v + m[1, 2]
    d2 = m[2, 0] * u + m[2, 1] * v + m[2, 2]
    return d0, d1, d2


@_inlined
def _moments(volume, shape, metric, s, d):
    """I, dI/ds and dI/dd of one ray."""
    first, count, slope_a, slope_c = _planes(s, d, shape)
    if count <= 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    q = first - s[0]
    a, c = s[1] + q * slope_a, s[2] + q * slope_c
    total, ga, gc, ja, jc = _sums(
        volume, shape, first, count, np.float32(a), np.float32(c), np.float32(slope_a), np.float32(slope_c)
    )
    length_a = metric[0, 1] + slope_a * metric[1, 1] + slope_c * metric[1, 2]
    length_c = metric[0, 2] + slope_a * metric[1, 2] + slope_c * metric[2, 2]
    w = math.sqrt(metric[0, 0] + slope_a * (metric[0, 1] + length_a) + slope_c * (metric[0, 2] + length_c))
    by_slope_a = w * (q * ga + ja) + length_a / w * total
    by_slope_c = w * (q * gc + jc) + length_c / w * total
    sa, sc = w * ga, w * gc
    da, dc = by_slope_a / d[0], by_slope_c / d[0]
    return w * total, -slope_a * sa - slope_c * sc, sa, sc, -slope_a * da - slope_c * dc, da, dc


@_compiled
def image_rows(volume, shape, metric, views, source, direction, first_row, last_row, out):
    """Rows of line integrals; rows are counted through all of `views`. out: (batch, height, width)."""
    height, width = out.shape[1], out.shape[2]
    for row in range(first_row, last_row):
        view, v = views[row // height], row % height
        s = (source[view, 0], source[view, 1], source[view, 2])
        for u in range(width):
            d = _direction(direction[view], u, v)
            first, count, slope_a, slope_c = _planes(s, d, shape)
            integral = 0.0
            if count > 0:
                q = first - s[0]
                a, c = np.float32(s[1] + q * slope_a), np.float32(s[2] + q * slope_c)
                total = _sum(volume, shape, first, count, a, c, np.float32(slope_a), np.float32(slope_c))
                square = metric[0, 0] + 2 * slope_a * metric[0, 1] + 2 * slope_c * metric[0, 2]
                square += slope_a * slope_a * metric[1, 1] + 2 * slope_a * slope_c * metric[1, 2]
                integral = total * math.sqrt(square + slope_c * slope_c * metric[2, 2])
            out[view, v, u] = integral


@_compiled
def moment_rows(volume, shape, metric, views, source, direction, first_row, last_row, order, out):
    """Rows of moments. out: (batch, 7, height, width); `order` says which of i, j, k are m, a and c."""
    height, width = out.shape[2], out.shape[3]
    for row in range(first_row, last_row):
        view, v = views[row // height], row % height
        s = (source[view, 0], source[view, 1], source[view, 2])
        for u in range(width):
            d = _direction(direction[view], u, v)
            moments = _moments(volume, shape, metric, s, d)
            out[view, 0, v, u] = moments[0]
            for axis in range(3):
                out[view, 1 + order[axis], v, u] = moments[1 + axis]
                out[view, 4 + order[axis], v, u] = moments[4 + axis]


@_compiled
def jacobian_rows(volume, shape, metric, views, source, direction, first_row, last_row, by_source, by_direction, out):
    """Rows of integrals and directional derivatives. by_source: (batch, p, 3); out: (batch, 1 + p, height, width)."""
    height, width = out.shape[2], out.shape[3]
    for row in range(first_row, last_row):
        view, v = views[row // height], row % height
        s = (source[view, 0], source[view, 1], source[view, 2])
        for u in range(width):
            d = _direction(direction[view], u, v)
            integral, s0, s1, s2, d0, d1, d2 = _moments(volume, shape, metric, s, d)
            out[view, 0, v, u] = integral
            for p in range(by_source.shape[1]):
                ds = by_source[view, p]
                dd = _direction(by_direction[view, p], u, v)
                out[view, 1 + p, v, u] = s0 * ds[0] + s1 * ds[1] + s2 * ds[2] + d0 * dd[0] + d1 * dd[1] + d2 * dd[2]
