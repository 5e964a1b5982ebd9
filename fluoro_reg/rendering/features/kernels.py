"""Projections of a volume of several channels with their derivatives along a ray, and the transpose of both, for numba.

A ray takes `samples` trilinear samples at fixed depths between where it enters the box and where it leaves it. Its derivative
to a twist is that of the samples' places at those depths: with the sums of the gradient g and of depth times g, `S0` and `S1`,
it is `S0 . ds + S1 . dd` for a source that moves by ds and a direction that turns by dd. The ends need no term, since the
interpolated volume is zero there. Image and derivative are linear in the volume, so the transpose is all that training asks for
besides.

Voxels lie as [k, j, i, channel] with a voxel of zeros on every side. Rows of pixels are shared out over threads as elsewhere
(`fluoro_reg.rendering.threads`).
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np

from fluoro_reg.rendering.backends.numba.kernels import _compiled, _inlined


class FeatureViews(NamedTuple):
    """Sources [view, 3] in voxels of the padded grid, directions [view, 3, 3] from homogeneous pixels, how both move with six
    numbers [view, 6, 3] and [view, 6, 3, 3], and the mm of a ray in a mm of depth [row, column]."""

    source: np.ndarray
    direction: np.ndarray
    by_source: np.ndarray
    by_direction: np.ndarray
    mm_by_depth: np.ndarray


@_inlined
@no_type_check
def _of_pixel(matrix, row, column, out):
    """What a matrix makes of the homogeneous pixel."""
    for axis in range(3):
        out[axis] = matrix[axis, 0] * column + matrix[axis, 1] * row + matrix[axis, 2]


@_inlined
@no_type_check
def _cut(source, ray, shape):
    """Depths at which a ray enters and leaves the box that the padded grid's outermost centres span."""
    enter, leave = 0.0, np.inf
    for axis in range(3):
        last = shape[2 - axis] - 1.0
        slope = ray[axis] if abs(ray[axis]) > 1e-12 else 1e-12
        one, other = -source[axis] / slope, (last - source[axis]) / slope
        enter, leave = max(enter, min(one, other)), min(leave, max(one, other))
    return enter, leave


@_inlined
@no_type_check
def _cell(place, size):
    """The lower voxel of a place along an axis, and the share of the upper one."""
    low = min(max(int(np.floor(place)), 0), size - 2)
    return low, np.float32(place - low)


@no_type_check
def _project(voxels, views, samples, first, last, out):
    """Rows `first` to `last` of all views: out [view, row, column, 7, channel], the image and its six derivatives."""
    height, width = views.mm_by_depth.shape
    channels = voxels.shape[3]
    s0, s1 = np.zeros((3, channels), np.float32), np.zeros((3, channels), np.float32)
    ray, turned = np.zeros(3), np.zeros(3)
    for line in range(first, last):
        view, row = line // height, line % height
        source, direction = views.source[view], views.direction[view]
        for column in range(width):
            _of_pixel(direction, row, column, ray)
            image = out[view, row, column]
            image[:] = 0
            enter, leave = _cut(source, ray, voxels.shape)
            if leave <= enter:
                continue
            s0[:], s1[:] = 0, 0
            step = (leave - enter) / samples
            for n in range(samples):
                depth = enter + (n + 0.5) * step
                i, x = _cell(source[0] + depth * ray[0], voxels.shape[2])
                j, y = _cell(source[1] + depth * ray[1], voxels.shape[1])
                k, z = _cell(source[2] + depth * ray[2], voxels.shape[0])
                far = np.float32(depth)
                for c in range(channels):
                    a, b = voxels[k, j, i, c], voxels[k, j, i + 1, c]
                    d, e = voxels[k, j + 1, i, c], voxels[k, j + 1, i + 1, c]
                    p, q = voxels[k + 1, j, i, c], voxels[k + 1, j, i + 1, c]
                    r, s = voxels[k + 1, j + 1, i, c], voxels[k + 1, j + 1, i + 1, c]
                    near_front, far_front = a + x * (b - a), d + x * (e - d)
                    near_back, far_back = p + x * (q - p), r + x * (s - r)
                    front, back = near_front + y * (far_front - near_front), near_back + y * (far_back - near_back)
                    image[0, c] += front + z * (back - front)
                    lower, upper = (b - a) + y * ((e - d) - (b - a)), (q - p) + y * ((s - r) - (q - p))
                    gx = lower + z * (upper - lower)
                    gy = (far_front - near_front) + z * ((far_back - near_back) - (far_front - near_front))
                    gz = back - front
                    s0[0, c] += gx
                    s0[1, c] += gy
                    s0[2, c] += gz
                    s1[0, c] += far * gx
                    s1[1, c] += far * gy
                    s1[2, c] += far * gz
            mm = np.float32(step * views.mm_by_depth[row, column])
            for number in range(6):
                by_source = views.by_source[view, number]
                _of_pixel(views.by_direction[view, number], row, column, turned)
                for c in range(channels):
                    total = 0.0
                    for axis in range(3):
                        total += by_source[axis] * s0[axis, c] + turned[axis] * s1[axis, c]
                    image[1 + number, c] = mm * total
            for c in range(channels):
                image[0, c] *= mm


@no_type_check
def _transpose(gradient, views, samples, first, last, voxels):
    """Adds to `voxels` what a gradient [view, row, column, 7, channel] of the rows says of them."""
    height, width = views.mm_by_depth.shape
    channels = voxels.shape[3]
    h0, h1 = np.zeros((3, channels), np.float32), np.zeros((3, channels), np.float32)
    ray, turned = np.zeros(3), np.zeros(3)
    for line in range(first, last):
        view, row = line // height, line % height
        source, direction = views.source[view], views.direction[view]
        for column in range(width):
            _of_pixel(direction, row, column, ray)
            enter, leave = _cut(source, ray, voxels.shape)
            if leave <= enter:
                continue
            step = (leave - enter) / samples
            mm = np.float32(step * views.mm_by_depth[row, column])
            given = gradient[view, row, column]
            h0[:], h1[:] = 0, 0
            for number in range(6):
                by_source = views.by_source[view, number]
                _of_pixel(views.by_direction[view, number], row, column, turned)
                for c in range(channels):
                    for axis in range(3):
                        h0[axis, c] += mm * by_source[axis] * given[1 + number, c]
                        h1[axis, c] += mm * turned[axis] * given[1 + number, c]
            for n in range(samples):
                depth = enter + (n + 0.5) * step
                i, x = _cell(source[0] + depth * ray[0], voxels.shape[2])
                j, y = _cell(source[1] + depth * ray[1], voxels.shape[1])
                k, z = _cell(source[2] + depth * ray[2], voxels.shape[0])
                far = np.float32(depth)
                for c in range(channels):
                    value = mm * given[0, c]
                    gx, gy, gz = h0[0, c] + far * h1[0, c], h0[1, c] + far * h1[1, c], h0[2, c] + far * h1[2, c]
                    for dk in range(2):
                        wz, sz = (z, gz) if dk else (1 - z, -gz)
                        for dj in range(2):
                            wy, sy = (y, gy) if dj else (1 - y, -gy)
                            across = wy * wz
                            slope = sy * wz + wy * sz
                            base = value * across + slope
                            voxels[k + dk, j + dj, i, c] += (1 - x) * base - gx * across
                            voxels[k + dk, j + dj, i + 1, c] += x * base + gx * across


project_rows: Any = _compiled(_project)
transpose_rows: Any = _compiled(_transpose)
