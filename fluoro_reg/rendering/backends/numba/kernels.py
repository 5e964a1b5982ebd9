"""The march through the volume, for numba: Joseph's quadrature with the moments of each ray.

A ray steps from plane to plane along one axis m of the grid and takes one bilinear sample per plane in the other two, a and
c. With slopes `ma = da/dm`, `mc = dc/dm` a step is `e = (1, ma, mc)` voxels, `w = sqrt(e^T G e)` mm long, where G is the grid's
metric; the integral is w times the sum of samples. As m never enters a sample's weights, derivatives need only the samples'
in-plane gradients (ga, gc) and their first moments in the plane number; the rest is algebra once a ray.
Source: P. M. Joseph, IEEE Trans. Med. Imaging 1(3), 1982.

Everything arrives in the order (m, a, c), m contiguous in memory, padded by one voxel of air before the grid and by two after
it, so that a sample at the far face (rounding included) needs no bounds check. Where a ray is counts in fixed point, 32 bits
for the voxel and 32 for the fraction within it: float32 would put a sample in a hundred thousand on the other side of a voxel's
face, where the derivative is another one, and an addition a step costs no more. Only values and sums are float32; moments count
planes from the ray's first one, or a source a metre away would cost their digits.

A ray leaves out the planes where it runs through blocks of air only, in runs: a block knows whether anything is in reach of a
ray that passes it half-way.

Plain functions that release the GIL, not numba's `parallel`: its threading layers die in forked children and when two Python
threads enter (`fluoro_reg.rendering.threads` shares the rows out instead).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

import numpy as np
from numba import njit, uint32

from fluoro_reg.rendering.rays import STEEPEST

PAD_BEFORE, PAD_AFTER = 1, 2
BLOCK_PLANES, BLOCK_ACROSS = 16, 8  # a block of the volume, along m and along a and c; powers of two
SKIPPED_SLOPE = 1.0

# Without "nnan" and "ninf": slopes of rays along a plane may be infinite, and comparisons with them must hold.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
# A run-time type checker's wrapper would be what numba compiles, hence `no_type_check` below.
_inlined: Any = njit(inline="always", **_OPTIONS)
_TILE = 16  # columns of pixels: the rays of a tile share their voxels' cache lines
_POSITIVE = uint32(0x7FFFFFFF)  # tells LLVM that an index has no sign bit, so that it gathers by 32-bit indices
_ONE = 2.0**32  # a voxel in fixed point
_FRACTION = np.int64(2**32 - 1)
_HALF_UNIT = np.float32(2.0**-31)  # of a fraction without its last bit, as a signed number: what CPUs convert fast


def _compiled(function: Callable) -> Any:
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither the package's folder nor the home is writable: compile once a process
        return njit(**_OPTIONS)(function)


class VolumeGrid(NamedTuple):
    """Padded voxels as [c, a, m], flat; how many along (m, a, c); the metric of a step, mm^2; the blocks [c, a, m] that are not
    air for a ray whose slopes are at most `SKIPPED_SLOPE` (empty: none is left out)."""

    voxels: np.ndarray
    shape: tuple[int, int, int]
    metric: np.ndarray
    filled: np.ndarray


class RayViews(NamedTuple):
    """RayViews that march through one grid, float64, in its order: `Rays`, `RayTangents`, and their places in the output."""

    place: np.ndarray
    source: np.ndarray
    direction: np.ndarray
    by_source: np.ndarray
    by_direction: np.ndarray


@_compiled
@no_type_check
def march_rows(grid: VolumeGrid, views: RayViews, first_row: int, last_row: int, out: np.ndarray) -> None:
    """Rows (counted through all views) of integrals and their derivatives. out: (batch, 1 + parameters, height, width)."""
    parameters, height, width = out.shape[1] - 1, out.shape[2], out.shape[3]
    moments = np.empty((6, _TILE))
    for left in range(0, width, _TILE):
        right = min(left + _TILE, width)
        for row in range(first_row, last_row):
            n, v = row // height, row % height
            line, s = out[views.place[n], :, v], (views.source[n, 0], views.source[n, 1], views.source[n, 2])
            for u in range(left, right):
                d = _direction(views.direction[n], u, v)
                if parameters == 0:
                    line[0, u] = _integral(grid, s, d)
                else:
                    line[0, u] = _moments(grid, s, d, moments[:, u - left])
            for p in range(parameters):
                _contract(moments, views.by_source[n, p], views.by_direction[n, p], left, right, v, line[1 + p])


@_inlined
@no_type_check
def _contract(moments: np.ndarray, ds: np.ndarray, dm: np.ndarray, left: int, right: int, v: int, line: np.ndarray) -> None:
    """The derivative of a tile's row of pixels to one parameter that moves the source by ds and the direction matrix by dm."""
    s0, s1, s2, x0, x1, x2 = ds[0], ds[1], ds[2], dm[0, 0], dm[1, 0], dm[2, 0]
    y0, y1, y2 = dm[0, 1] * v + dm[0, 2], dm[1, 1] * v + dm[1, 2], dm[2, 1] * v + dm[2, 2]
    for u in range(left, right):
        i = u - left
        by_source = moments[0, i] * s0 + moments[1, i] * s1 + moments[2, i] * s2
        by_direction = moments[3, i] * (x0 * u + y0) + moments[4, i] * (x1 * u + y1) + moments[5, i] * (x2 * u + y2)
        line[u] = by_source + by_direction


@_inlined
@no_type_check
def _direction(matrix: np.ndarray, u: int, v: int) -> tuple[float, float, float]:
    d0 = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]
    d1 = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]
    d2 = matrix[2, 0] * u + matrix[2, 1] * v + matrix[2, 2]
    return d0, d1, d2


@_inlined
@no_type_check
def _integral(grid: VolumeGrid, s: tuple[float, float, float], d: tuple[float, float, float]) -> float:
    first, count, ma, mc = _planes(grid.shape, s, d)
    if count <= 0:
        return 0.0
    q = first - s[0]
    total = _sum(grid, first, count, (_fixed(s[1] + q * ma), _fixed(s[2] + q * mc), _fixed(ma), _fixed(mc)))
    return total * _step(grid.metric, ma, mc)[0]


@_inlined
@no_type_check
def _moments(grid: VolumeGrid, s: tuple[float, float, float], d: tuple[float, float, float], out: np.ndarray) -> float:
    """I; dI/ds and dI/dd into `out`."""
    first, count, ma, mc = _planes(grid.shape, s, d)
    if count <= 0:
        out[:] = 0.0
        return 0.0
    q = first - s[0]
    ray = (_fixed(s[1] + q * ma), _fixed(s[2] + q * mc), _fixed(ma), _fixed(mc))
    total, ga, gc, ja, jc = _sums(grid, first, count, ray)
    w, w_by_ma, w_by_mc = _step(grid.metric, ma, mc)
    out[1], out[2] = w * ga, w * gc
    out[4] = (w * (q * ga + ja) + w_by_ma * total) / d[0]
    out[5] = (w * (q * gc + jc) + w_by_mc * total) / d[0]
    out[0], out[3] = -ma * out[1] - mc * out[2], -ma * out[4] - mc * out[5]  # a move along the ray changes nothing
    return w * total


@_inlined
@no_type_check
def _step(metric: np.ndarray, ma: float, mc: float) -> tuple[float, float, float]:
    """The length of a step, and its derivatives to the slopes."""
    gm = metric[0, 0] + ma * metric[0, 1] + mc * metric[0, 2]
    ga = metric[0, 1] + ma * metric[1, 1] + mc * metric[1, 2]
    gc = metric[0, 2] + ma * metric[1, 2] + mc * metric[2, 2]
    w = math.sqrt(gm + ma * ga + mc * gc)
    return w, ga / w, gc / w


@_inlined
@no_type_check
def _planes(shape: tuple[int, int, int], s: tuple[float, float, float], d: tuple[float, float, float]) -> tuple:
    """The first plane and the number of planes where the ray is beyond its source and within the grid; its slopes."""
    ma, mc = d[1] / d[0], d[2] / d[0]
    low, high = 1.0, shape[0] - 3.0
    if d[0] > 0:
        low = max(low, s[0])
    else:
        high = min(high, s[0])
    if not (abs(d[1]) < STEEPEST * abs(d[0]) and abs(d[2]) < STEEPEST * abs(d[0])):
        high = 0.0
    for axis, slope in ((1, ma), (2, mc)):
        last = shape[axis] - 2.0
        if abs(slope) < 1e-12:
            if s[axis] < 0.0 or s[axis] > last:
                high = 0.0
        else:
            one, two = s[0] - s[axis] / slope, s[0] + (last - s[axis]) / slope
            low, high = max(low, min(one, two)), min(high, max(one, two))
    if not high >= low:
        return 1, 0, ma, mc
    first = math.ceil(low)
    return first, math.floor(high) - first + 1, ma, mc


@_inlined
@no_type_check
def _fixed(x: float) -> int:
    return np.int64(x * _ONE)


@_inlined
@no_type_check
def _next_run(grid: VolumeGrid, first: int, plane: int, end: int, ray: tuple[int, int, int, int]) -> tuple[int, int]:
    """The next planes [start, stop) from `plane` on that are not air; start == end where none is left."""
    start, stop = end, plane
    if grid.filled.size == 0 or max(abs(ray[2]), abs(ray[3])) > np.int64(SKIPPED_SLOPE * _ONE):
        return plane, end
    while stop < end:
        begin, stop = stop, min((stop // BLOCK_PLANES + 1) * BLOCK_PLANES, end)
        half_way = (begin + stop) // 2 - first
        a, c = (ray[0] + half_way * ray[2]) >> 32, (ray[1] + half_way * ray[3]) >> 32
        if grid.filled[c // BLOCK_ACROSS, a // BLOCK_ACROSS, begin // BLOCK_PLANES]:
            start = min(start, begin)
        elif start < end:
            return start, begin
    return start, stop


@_compiled
@no_type_check
def _sum(grid: VolumeGrid, first: int, count: int, ray: tuple[int, int, int, int]) -> float:
    """Sum of the samples of a ray: (a, c) in its first plane and their slopes, in fixed point."""
    volume, stride_a, stride_c = grid.voxels, uint32(grid.shape[0]), uint32(grid.shape[0] * grid.shape[1])
    total, end = np.float32(0), first + count
    start, stop = _next_run(grid, first, first, end, ray)
    while start < end:
        x, y = ray[0] + (start - first) * ray[2], ray[1] + (start - first) * ray[3]
        for plane in range(start, stop):
            fx, fy = _within_voxel(x), _within_voxel(y)
            i = uint32(uint32(x >> 32) * stride_a + uint32(y >> 32) * stride_c + uint32(plane))
            v00, v10 = volume[uint32(i & _POSITIVE)], volume[uint32((i + stride_a) & _POSITIVE)]
            v01, v11 = volume[uint32((i + stride_c) & _POSITIVE)], volume[uint32((i + stride_a + stride_c) & _POSITIVE)]
            near, far = v00 + fx * (v10 - v00), v01 + fx * (v11 - v01)
            total += near + fy * (far - near)
            x += ray[2]
            y += ray[3]
        start, stop = _next_run(grid, first, stop, end, ray)
    return total


@_compiled
@no_type_check
def _sums(grid: VolumeGrid, first: int, count: int, ray: tuple[int, int, int, int]) -> tuple[float, ...]:
    """As `_sum`, with the sums of the samples' gradients along a and c, and of those times the number of steps."""
    volume, stride_a, stride_c = grid.voxels, uint32(grid.shape[0]), uint32(grid.shape[0] * grid.shape[1])
    total, ga, gc, ja, jc = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    end = first + count
    start, stop = _next_run(grid, first, first, end, ray)
    while start < end:
        x, y = ray[0] + (start - first) * ray[2], ray[1] + (start - first) * ray[3]
        for plane in range(start, stop):
            j = np.float32(plane - first)
            fx, fy = _within_voxel(x), _within_voxel(y)
            i = uint32(uint32(x >> 32) * stride_a + uint32(y >> 32) * stride_c + uint32(plane))
            v00, v10 = volume[uint32(i & _POSITIVE)], volume[uint32((i + stride_a) & _POSITIVE)]
            v01, v11 = volume[uint32((i + stride_c) & _POSITIVE)], volume[uint32((i + stride_a + stride_c) & _POSITIVE)]
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
        start, stop = _next_run(grid, first, stop, end, ray)
    return total, ga, gc, ja, jc


@_inlined
@no_type_check
def _within_voxel(x: int) -> float:
    """The fraction of a fixed-point position."""
    return np.float32(np.int32((x & _FRACTION) >> 1)) * _HALF_UNIT
