"""Numba kernels that march rays through the volume: Joseph's quadrature with the moments of each ray.

A ray steps from plane to plane along one axis m of the grid and takes one bilinear sample per plane in the other two axes, a
and c. With slopes `ma = da/dm` and `mc = dc/dm`, a step is `e = (1, ma, mc)` voxels and `w = sqrt(e^T G e)` mm long, where G is
the metric of the grid. The integral is w times the sum of the samples. As m does not enter a sample's weights, derivatives need
only the in-plane gradients of the samples (ga, gc) and their first moments in the plane number. The rest is algebra once per
ray. Source: P. M. Joseph, IEEE Trans. Med. Imaging 1(3), 1982.

All arrays are in the order (m, a, c), with m contiguous in memory. The volume is padded by one voxel of air before the grid and
by two after it, so that a sample at the far face (rounding included) needs no bounds check. Positions are fixed-point, with 32
bits for the voxel and 32 for the fraction within it. Float32 would put one sample in a hundred thousand on the wrong side of a
voxel face, where the derivative is different; a fixed-point step is one addition as well. Only values and sums are float32.
Moments count planes from the ray's first one, because a source that is a metre away would otherwise cost precision.

Planes where a ray passes only through blocks of air are skipped in runs. A block is marked as occupied if a ray that passes
through it at its midpoint can reach anything that is not air.

The kernels are plain functions that release the GIL; `fluoro_reg.rendering.threads` distributes the rows.
"""

import math
from typing import NamedTuple, no_type_check

import numpy as np
from numba import uint32

from fluoro_reg.compiled import jit_cached, jit_inline
from fluoro_reg.rendering.rays import MAX_SLOPE

PAD_BEFORE, PAD_AFTER = 1, 2
BLOCK_SIZE_M, BLOCK_SIZE_AC = 16, 8  # voxels of a block along m, and along a and c; powers of two
MAX_SKIP_SLOPE = 1.0

_EDGE = 2.0**-18  # voxels within the padding where a ray ends: more than the rounding of 4096 fixed-point steps
_TILE_WIDTH = 16  # columns of pixels, whose rays share the cache lines of their voxels
_INDEX_MASK = uint32(0x7FFFFFFF)  # shows LLVM that an index has no sign bit, so that it gathers with 32-bit indices
_FIXED_POINT_ONE = 2.0**32  # one voxel
_FRACTION_MASK = np.int64(2**32 - 1)
_FRACTION_SCALE = np.float32(2.0**-31)  # for a fraction without its last bit: signed integers convert faster


class VolumeGrid(NamedTuple):
    """A padded volume in march order.

    `voxels` is [c, a, m], flattened; `shape` is the size along (m, a, c); `metric` is that of a step, mm^2. `occupied` marks
    the blocks [c, a, m] that are not air for a ray with slopes of at most `MAX_SKIP_SLOPE`; if it is empty, no block is
    skipped.
    """

    voxels: np.ndarray
    shape: tuple[int, int, int]
    metric: np.ndarray
    occupied: np.ndarray


class RayViews(NamedTuple):
    """The views that march along the same axis, float64, in march order, with their indices in the output."""

    view_index: np.ndarray
    source: np.ndarray
    direction: np.ndarray
    source_tangent: np.ndarray
    direction_tangent: np.ndarray


@jit_cached
@no_type_check
def march_rows(grid: VolumeGrid, views: RayViews, first_row: int, last_row: int, out: np.ndarray) -> None:
    """Compute rows of integrals and their derivatives; rows are counted through all views.

    `out` is (batch, 1 + parameters, height, width).
    """
    parameters, height, width = out.shape[1] - 1, out.shape[2], out.shape[3]
    moments = np.empty((6, _TILE_WIDTH))
    for left in range(0, width, _TILE_WIDTH):
        right = min(left + _TILE_WIDTH, width)
        for row in range(first_row, last_row):
            n, v = row // height, row % height
            line, s = out[views.view_index[n], :, v], (views.source[n, 0], views.source[n, 1], views.source[n, 2])
            for u in range(left, right):
                d = _ray_direction(views.direction[n], u, v)
                if parameters == 0:
                    line[0, u] = _line_integral(grid, s, d)
                else:
                    line[0, u] = _ray_moments(grid, s, d, moments[:, u - left])
            for p in range(parameters):
                _contract(moments, views.source_tangent[n, p], views.direction_tangent[n, p], left, right, v, line[1 + p])


@jit_inline
@no_type_check
def _contract(moments: np.ndarray, ds: np.ndarray, dm: np.ndarray, left: int, right: int, v: int, line: np.ndarray) -> None:
    """Compute the derivative of a row of a tile with respect to one parameter.

    Its tangents are ds for the source and dm for the direction matrix.
    """
    s0, s1, s2, x0, x1, x2 = ds[0], ds[1], ds[2], dm[0, 0], dm[1, 0], dm[2, 0]
    y0, y1, y2 = dm[0, 1] * v + dm[0, 2], dm[1, 1] * v + dm[1, 2], dm[2, 1] * v + dm[2, 2]
    for u in range(left, right):
        i = u - left
        source_tangent = moments[0, i] * s0 + moments[1, i] * s1 + moments[2, i] * s2
        direction_tangent = moments[3, i] * (x0 * u + y0) + moments[4, i] * (x1 * u + y1) + moments[5, i] * (x2 * u + y2)
        line[u] = source_tangent + direction_tangent


@jit_inline
@no_type_check
def _ray_direction(matrix: np.ndarray, u: int, v: int) -> tuple[float, float, float]:
    d0 = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]
    d1 = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]
    d2 = matrix[2, 0] * u + matrix[2, 1] * v + matrix[2, 2]
    return d0, d1, d2


@jit_inline
@no_type_check
def _line_integral(grid: VolumeGrid, s: tuple[float, float, float], d: tuple[float, float, float]) -> float:
    first, count, ma, mc = _plane_range(grid.shape, s, d)
    if count <= 0:
        return 0.0
    q = first - s[0]
    total = _sum_samples(
        grid,
        first,
        count,
        (_to_fixed_point(s[1] + q * ma), _to_fixed_point(s[2] + q * mc), _to_fixed_point(ma), _to_fixed_point(mc)),
    )
    return total * _step_length(grid.metric, ma, mc)[0]


@jit_inline
@no_type_check
def _ray_moments(grid: VolumeGrid, s: tuple[float, float, float], d: tuple[float, float, float], out: np.ndarray) -> float:
    """Return I; write dI/ds and dI/dd to `out`."""
    first, count, ma, mc = _plane_range(grid.shape, s, d)
    if count <= 0:
        out[:] = 0.0
        return 0.0
    q = first - s[0]
    ray = (_to_fixed_point(s[1] + q * ma), _to_fixed_point(s[2] + q * mc), _to_fixed_point(ma), _to_fixed_point(mc))
    total, ga, gc, ja, jc = _sum_samples_and_gradients(grid, first, count, ray)
    w, dw_dma, dw_dmc = _step_length(grid.metric, ma, mc)
    out[1], out[2] = w * ga, w * gc
    out[4] = (w * (q * ga + ja) + dw_dma * total) / d[0]
    out[5] = (w * (q * gc + jc) + dw_dmc * total) / d[0]
    out[0], out[3] = -ma * out[1] - mc * out[2], -ma * out[4] - mc * out[5]  # a move along the ray changes nothing
    return w * total


@jit_inline
@no_type_check
def _step_length(metric: np.ndarray, ma: float, mc: float) -> tuple[float, float, float]:
    """Return the length of a step and its derivatives with respect to the slopes."""
    gm = metric[0, 0] + ma * metric[0, 1] + mc * metric[0, 2]
    ga = metric[0, 1] + ma * metric[1, 1] + mc * metric[1, 2]
    gc = metric[0, 2] + ma * metric[1, 2] + mc * metric[2, 2]
    w = math.sqrt(gm + ma * ga + mc * gc)
    return w, ga / w, gc / w


@jit_inline
@no_type_check
def _plane_range(shape: tuple[int, int, int], s: tuple[float, float, float], d: tuple[float, float, float]) -> tuple:
    """Return the first plane, the number of planes, and the slopes of a ray.

    At these planes the ray is in front of its source and within the grid. It must be well within: a ray that leaves through an
    edge of the grid would otherwise be rounded to the voxel before it, whose index is that of another place in memory, or none.
    """
    ma, mc = d[1] / d[0], d[2] / d[0]
    low, high = 1.0, shape[0] - 3.0
    if d[0] > 0:
        low = max(low, s[0])
    else:
        high = min(high, s[0])
    if not (abs(d[1]) < MAX_SLOPE * abs(d[0]) and abs(d[2]) < MAX_SLOPE * abs(d[0])):
        high = 0.0
    for axis, slope in ((1, ma), (2, mc)):
        last = shape[axis] - 2.0
        if abs(slope) < 1e-12:
            if s[axis] < _EDGE or s[axis] > last:
                high = 0.0
        else:
            one, two = s[0] + (_EDGE - s[axis]) / slope, s[0] + (last - s[axis]) / slope
            low, high = max(low, min(one, two)), min(high, max(one, two))
    if not high >= low:
        return 1, 0, ma, mc
    first = math.ceil(low)
    return first, math.floor(high) - first + 1, ma, mc


@jit_inline
@no_type_check
def _to_fixed_point(x: float) -> int:
    return np.int64(x * _FIXED_POINT_ONE)


@jit_inline
@no_type_check
def _next_occupied_run(grid: VolumeGrid, first: int, plane: int, end: int, ray: tuple[int, int, int, int]) -> tuple[int, int]:
    """Return the next planes [start, stop) from `plane` on that are not air; start == end if none is left."""
    start, stop = end, plane
    if grid.occupied.size == 0 or max(abs(ray[2]), abs(ray[3])) > np.int64(MAX_SKIP_SLOPE * _FIXED_POINT_ONE):
        return plane, end
    while stop < end:
        begin, stop = stop, min((stop // BLOCK_SIZE_M + 1) * BLOCK_SIZE_M, end)
        midpoint = (begin + stop) // 2 - first
        a, c = (ray[0] + midpoint * ray[2]) >> 32, (ray[1] + midpoint * ray[3]) >> 32
        if grid.occupied[c // BLOCK_SIZE_AC, a // BLOCK_SIZE_AC, begin // BLOCK_SIZE_M]:
            start = min(start, begin)
        elif start < end:
            return start, begin
    return start, stop


@jit_cached
@no_type_check
def _sum_samples(grid: VolumeGrid, first: int, count: int, ray: tuple[int, int, int, int]) -> float:
    """Return the sum of the samples of a ray, given (a, c) in its first plane and its slopes, in fixed point."""
    volume, stride_a, stride_c = grid.voxels, uint32(grid.shape[0]), uint32(grid.shape[0] * grid.shape[1])
    total, end = np.float32(0), first + count
    start, stop = _next_occupied_run(grid, first, first, end, ray)
    while start < end:
        x, y = ray[0] + (start - first) * ray[2], ray[1] + (start - first) * ray[3]
        for plane in range(start, stop):
            fx, fy = _fraction(x), _fraction(y)
            i = uint32(uint32(x >> 32) * stride_a + uint32(y >> 32) * stride_c + uint32(plane))
            v00, v10 = volume[uint32(i & _INDEX_MASK)], volume[uint32((i + stride_a) & _INDEX_MASK)]
            v01, v11 = volume[uint32((i + stride_c) & _INDEX_MASK)], volume[uint32((i + stride_a + stride_c) & _INDEX_MASK)]
            near, far = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
            total += near + fy * (far - near)
            x += ray[2]
            y += ray[3]
        start, stop = _next_occupied_run(grid, first, stop, end, ray)
    return total


@jit_cached
@no_type_check
def _sum_samples_and_gradients(grid: VolumeGrid, first: int, count: int, ray: tuple[int, int, int, int]) -> tuple[float, ...]:
    """Like `_sum_samples`, with the sums of the samples' gradients along a and c, and of these times the number of steps."""
    volume, stride_a, stride_c = grid.voxels, uint32(grid.shape[0]), uint32(grid.shape[0] * grid.shape[1])
    total, ga, gc, ja, jc = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    end = first + count
    start, stop = _next_occupied_run(grid, first, first, end, ray)
    while start < end:
        x, y = ray[0] + (start - first) * ray[2], ray[1] + (start - first) * ray[3]
        for plane in range(start, stop):
            j = np.float32(plane - first)
            fx, fy = _fraction(x), _fraction(y)
            i = uint32(uint32(x >> 32) * stride_a + uint32(y >> 32) * stride_c + uint32(plane))
            v00, v10 = volume[uint32(i & _INDEX_MASK)], volume[uint32((i + stride_a) & _INDEX_MASK)]
            v01, v11 = volume[uint32((i + stride_c) & _INDEX_MASK)], volume[uint32((i + stride_a + stride_c) & _INDEX_MASK)]
            near_a, far_a = v10 - v00, v11 - v01
            near, far = v00 + fx * near_a, v01 + fx * far_a
            along_a, along_c = near_a + fy * (far_a - near_a), far - near
            total += near + fy * along_c
            ga += along_a
            gc += along_c
            ja += j * along_a
            jc += j * along_c
            x += ray[2]
            y += ray[3]
        start, stop = _next_occupied_run(grid, first, stop, end, ray)
    return total, ga, gc, ja, jc


@jit_inline
@no_type_check
def _fraction(x: int) -> float:
    """Return the fraction of a fixed-point position."""
    return np.float32(np.int32((x & _FRACTION_MASK) >> 1)) * _FRACTION_SCALE
