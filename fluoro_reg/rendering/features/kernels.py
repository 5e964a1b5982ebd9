"""Numba kernels that project a volume of several channels with derivatives with respect to the pose, and the transpose.

A ray takes `samples` trilinear samples at fixed depths between its entry into the box and its exit. Its derivative with respect
to a twist is that of the sample positions at those depths. With `S0` the sum of the gradient g and `S1` the sum of depth times
g, it is `S0 . ds + S1 . dd` when the source moves by ds and the direction by dd. The ends contribute nothing, since the
interpolated volume is zero there. Image and derivatives are linear in the volume, so training needs nothing more than the
transpose of this map.

Voxels are stored as [k, j, i, channel] with one voxel of zeros on every side. `fluoro_reg.rendering.threads` distributes the
rows of pixels.
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached, jit_inline


class FeatureViews(NamedTuple):
    """Geometry of the views.

    `source` [view, 3] is in voxels of the padded grid, `direction` [view, 3, 3] maps homogeneous pixels, and the tangents
    [view, 6, 3] and [view, 6, 3, 3] are their derivatives with respect to six parameters. `mm_per_depth` [row, column] is the
    length of a ray per mm of depth.
    """

    source: np.ndarray
    direction: np.ndarray
    source_tangent: np.ndarray
    direction_tangent: np.ndarray
    mm_per_depth: np.ndarray


@jit_inline
@no_type_check
def _ray_direction(matrix, row, column, out):
    """Write the product of the matrix and the homogeneous pixel to `out`."""
    for axis in range(3):
        out[axis] = matrix[axis, 0] * column + matrix[axis, 1] * row + matrix[axis, 2]


@jit_inline
@no_type_check
def _clip_to_box(source, ray, shape):
    """Return the depths at which a ray enters and leaves the box spanned by the padded grid's outermost voxel centres."""
    enter, leave = 0.0, np.inf
    for axis in range(3):
        last = shape[2 - axis] - 1.0
        slope = ray[axis] if abs(ray[axis]) > 1e-12 else 1e-12
        one, other = -source[axis] / slope, (last - source[axis]) / slope
        enter, leave = max(enter, min(one, other)), min(leave, max(one, other))
    return enter, leave


@jit_inline
@no_type_check
def _cell_and_fraction(place, size):
    """Return the lower voxel of a position along an axis, and the fraction of the upper one."""
    low = min(max(int(np.floor(place)), 0), size - 2)
    return low, np.float32(place - low)


@no_type_check
def _project(voxels, views, samples, first, last, out):
    """Project rows `first` to `last` of all views; out [view, row, column, 7, channel] is the image and its six derivatives."""
    height, width = views.mm_per_depth.shape
    channels = voxels.shape[3]
    s0, s1 = np.zeros((3, channels), np.float32), np.zeros((3, channels), np.float32)
    ray, direction_change = np.zeros(3), np.zeros(3)
    for line in range(first, last):
        view, row = line // height, line % height
        source, direction = views.source[view], views.direction[view]
        for column in range(width):
            _ray_direction(direction, row, column, ray)
            image = out[view, row, column]
            image[:] = 0
            enter, leave = _clip_to_box(source, ray, voxels.shape)
            if leave <= enter:
                continue
            s0[:], s1[:] = 0, 0
            step = (leave - enter) / samples
            for n in range(samples):
                depth = enter + (n + 0.5) * step
                i, x = _cell_and_fraction(source[0] + depth * ray[0], voxels.shape[2])
                j, y = _cell_and_fraction(source[1] + depth * ray[1], voxels.shape[1])
                k, z = _cell_and_fraction(source[2] + depth * ray[2], voxels.shape[0])
                depth32 = np.float32(depth)
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
                    s1[0, c] += depth32 * gx
                    s1[1, c] += depth32 * gy
                    s1[2, c] += depth32 * gz
            mm = np.float32(step * views.mm_per_depth[row, column])
            for parameter in range(6):
                source_tangent = views.source_tangent[view, parameter]
                _ray_direction(views.direction_tangent[view, parameter], row, column, direction_change)
                for c in range(channels):
                    total = 0.0
                    for axis in range(3):
                        total += source_tangent[axis] * s0[axis, c] + direction_change[axis] * s1[axis, c]
                    image[1 + parameter, c] = mm * total
            for c in range(channels):
                image[0, c] *= mm


@no_type_check
def _transpose(gradient, views, samples, first, last, voxels):
    """Add to `voxels` the transpose of `_project` applied to the rows' gradient [view, row, column, 7, channel]."""
    height, width = views.mm_per_depth.shape
    channels = voxels.shape[3]
    h0, h1 = np.zeros((3, channels), np.float32), np.zeros((3, channels), np.float32)
    ray, direction_change = np.zeros(3), np.zeros(3)
    for line in range(first, last):
        view, row = line // height, line % height
        source, direction = views.source[view], views.direction[view]
        for column in range(width):
            _ray_direction(direction, row, column, ray)
            enter, leave = _clip_to_box(source, ray, voxels.shape)
            if leave <= enter:
                continue
            step = (leave - enter) / samples
            mm = np.float32(step * views.mm_per_depth[row, column])
            pixel_gradient = gradient[view, row, column]
            h0[:], h1[:] = 0, 0
            for parameter in range(6):
                source_tangent = views.source_tangent[view, parameter]
                _ray_direction(views.direction_tangent[view, parameter], row, column, direction_change)
                for c in range(channels):
                    for axis in range(3):
                        h0[axis, c] += mm * source_tangent[axis] * pixel_gradient[1 + parameter, c]
                        h1[axis, c] += mm * direction_change[axis] * pixel_gradient[1 + parameter, c]
            for n in range(samples):
                depth = enter + (n + 0.5) * step
                i, x = _cell_and_fraction(source[0] + depth * ray[0], voxels.shape[2])
                j, y = _cell_and_fraction(source[1] + depth * ray[1], voxels.shape[1])
                k, z = _cell_and_fraction(source[2] + depth * ray[2], voxels.shape[0])
                depth32 = np.float32(depth)
                for c in range(channels):
                    value = mm * pixel_gradient[0, c]
                    gx, gy, gz = h0[0, c] + depth32 * h1[0, c], h0[1, c] + depth32 * h1[1, c], h0[2, c] + depth32 * h1[2, c]
                    for dk in range(2):
                        wz, sz = (z, gz) if dk else (1 - z, -gz)
                        for dj in range(2):
                            wy, sy = (y, gy) if dj else (1 - y, -gy)
                            across = wy * wz
                            slope = sy * wz + wy * sz
                            base = value * across + slope
                            voxels[k + dk, j + dj, i, c] += (1 - x) * base - gx * across
                            voxels[k + dk, j + dj, i + 1, c] += x * base + gx * across


project_rows: Any = jit_cached(_project)
transpose_rows: Any = jit_cached(_transpose)
