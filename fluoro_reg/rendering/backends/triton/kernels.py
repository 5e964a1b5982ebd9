"""The march through the volume, for GPUs, in Triton: Joseph's quadrature with the moments of each ray.

The mathematics is that of `fluoro_reg.rendering.backends.numba.kernels`; what differs is what a GPU wants. A program is a tile
of rays that march the same planes together, so that a plane's voxels are read once from memory and then from the cache;
`SPLIT` rows of lanes share the planes of a tile in turn, as one view alone has too few rays to fill a GPU. Planes are the slow
axis of memory, not the fast one as on a CPU.

Where a ray is counts in fixed point, 32 bits for the voxel and 32 for the fraction: the upper half is the index as it stands,
and float64, at which few cards are fast, is left to the set-up of a ray. A sample counts if its four voxels are in the grid, so
the planes to march need no exact bounds. Sums are float32, whatever the voxels are.

Order (m, a, c) is the march axis and the two across, a the one whose voxels are neighbours in memory. A table by march axis,
`layout`, says how that order lies there: offset, strides m and c, shape (m, a, c). `metric` has the entries mm, ma, mc, aa, ac,
cc of a step's metric, mm^2.
"""

from typing import no_type_check  # a run-time type checker's wrapper would be what Triton reads

import triton
import triton.language as tl

from fluoro_reg.rendering.rays import STEEPEST

LAYOUT_SIZE = tl.constexpr(6)
_STEEPEST = tl.constexpr(STEEPEST)
_ONE = tl.constexpr(2.0**32)  # a voxel in fixed point
_FAR = tl.constexpr(1e9)  # planes: no bound


@triton.jit(do_not_specialize=["height", "width", "unit"])
@no_type_check
def march_kernel(
    voxels, layout, metric, unit, source, direction, by_source, by_direction, axes, out, height, width,
    PARAMETERS: tl.constexpr, SPLIT: tl.constexpr, TILE_V: tl.constexpr, TILE_U: tl.constexpr,
):  # fmt: skip
    """Integrals and their derivatives to parameters. out: [batch, 1 + PARAMETERS, height, width]; grid: (batch * tiles,)."""
    view, _, u, v, inside = _pixels(height, width, TILE_V, TILE_U)
    axis = tl.load(axes + view)
    image, a0, a1, a2, b0, b1, b2 = _moments(
        voxels, layout + LAYOUT_SIZE * axis, metric + 6 * axis, unit, source + 3 * view, direction + 9 * view, axis, u, v,
        inside, PARAMETERS > 0, SPLIT,
    )  # fmt: skip
    place = out + view.to(tl.int64) * (1 + PARAMETERS) * height * width + v * width + u
    tl.store(place, image, mask=inside)
    for p in tl.static_range(PARAMETERS):
        moved = view * PARAMETERS + p
        column = _column(by_source + 3 * moved, by_direction + 9 * moved, axis, u, v, a0, a1, a2, b0, b1, b2)
        tl.store(place + (1 + p) * height * width, column, mask=inside)


@triton.jit(do_not_specialize=["height", "width", "unit"])
@no_type_check
def gram_kernel(
    voxels, layout, metric, unit, source, direction, by_source, by_direction, axes, fixed, weight, out, height, width,
    PARAMETERS: tl.constexpr, SPLIT: tl.constexpr, TILE_V: tl.constexpr, TILE_U: tl.constexpr,
):  # fmt: skip
    """Sums of weighted products of [1, F, I, dI/dparameter ...] by tile. out: [batch, tiles, 16, 16]; grid: (batch * tiles,)

    `fixed` (F) and `weight` are [batch, height, width]. Nothing else leaves the kernel: no image, no Jacobian.
    """
    view, tile, u, v, inside = _pixels(height, width, TILE_V, TILE_U)
    axis = tl.load(axes + view)
    image, a0, a1, a2, b0, b1, b2 = _moments(
        voxels, layout + LAYOUT_SIZE * axis, metric + 6 * axis, unit, source + 3 * view, direction + 9 * view, axis, u, v,
        inside, PARAMETERS > 0, SPLIT,
    )  # fmt: skip
    pixel = view.to(tl.int64) * height * width + v * width + u
    row = tl.arange(0, 16)[:, None]
    x = tl.where(row == 0, 1.0, 0.0) + tl.where(row == 1, tl.load(fixed + pixel, mask=inside, other=0.0)[None, :], 0.0)
    x = tl.where(row == 2, image[None, :], x)
    for p in tl.static_range(PARAMETERS):
        moved = view * PARAMETERS + p
        column = _column(by_source + 3 * moved, by_direction + 9 * moved, axis, u, v, a0, a1, a2, b0, b1, b2)
        x = tl.where(row == 3 + p, column[None, :], x)
    w = tl.load(weight + pixel, mask=inside, other=0.0)
    products = tl.dot(x * w[None, :], tl.trans(x), input_precision="ieee")
    place = out + (view.to(tl.int64) * tl.cdiv(height, TILE_V) * tl.cdiv(width, TILE_U) + tile) * 256
    tl.store(place + row * 16 + tl.arange(0, 16)[None, :], products)


@triton.jit
@no_type_check
def _pixels(height, width, TILE_V: tl.constexpr, TILE_U: tl.constexpr):
    """View and tile of this program, and the tile's pixels."""
    across = tl.cdiv(width, TILE_U)
    tiles = across * tl.cdiv(height, TILE_V)
    view, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    lane = tl.arange(0, TILE_V * TILE_U)
    v = tile // across * TILE_V + lane // TILE_U
    u = tile % across * TILE_U + lane % TILE_U
    return view, tile, u, v, (v < height) & (u < width)


@triton.jit
@no_type_check
def _moments(
    voxels, layout, metric, unit, source, direction, axis, u, v, inside, WITH_DERIVATIVES: tl.constexpr, SPLIT: tl.constexpr
):
    """I, dI/ds (m, a, c), dI/dd (m, a, c) of a tile of rays."""
    a_axis, c_axis = _across(axis)
    sm, sa, sc = tl.load(source + axis), tl.load(source + a_axis), tl.load(source + c_axis)
    dm = _direction(direction + 3 * axis, u, v)
    da, dc = _direction(direction + 3 * a_axis, u, v), _direction(direction + 3 * c_axis, u, v)
    marches = inside & (tl.abs(da) < _STEEPEST * tl.abs(dm)) & (tl.abs(dc) < _STEEPEST * tl.abs(dm))
    dm = tl.where(marches, dm, 1.0)
    slope_a, slope_c = tl.where(marches, da / dm, 0.0), tl.where(marches, dc / dm, 0.0)
    at_zero_a, at_zero_c = sa - sm * slope_a, sc - sm * slope_c

    shape_m, shape_a, shape_c = tl.load(layout + 3), tl.load(layout + 4), tl.load(layout + 5)
    ahead = tl.where(dm > 0, tl.ceil(sm), 1.0).to(tl.int32)
    behind = tl.where(dm > 0, shape_m - 2, tl.floor(sm)).to(tl.int32)
    low_a, high_a = _crossed(at_zero_a.to(tl.float32), slope_a.to(tl.float32), shape_a)
    low_c, high_c = _crossed(at_zero_c.to(tl.float32), slope_c.to(tl.float32), shape_c)
    low, high = tl.maximum(low_a, low_c), tl.minimum(high_a, high_c)
    marches = marches & (low <= high + 2)
    begin = tl.min(tl.where(marches, low, _FAR), axis=0).to(tl.int32) - 1
    end = tl.max(tl.where(marches, high, -_FAR), axis=0).to(tl.int32) + 2
    begin, end = tl.minimum(tl.maximum(begin, 1), shape_m - 1), tl.minimum(tl.maximum(end, 1), shape_m - 1)
    ahead, behind = tl.maximum(ahead, begin), tl.where(marches, tl.minimum(behind, end - 1), -1)
    total, ga, gc, ja, jc = _sums(
        voxels + tl.load(layout), tl.load(layout + 1), tl.load(layout + 2), shape_a, shape_c, begin, end, ahead,
        tl.maximum(behind + 1 - ahead, 0), at_zero_a, at_zero_c, slope_a, slope_c, WITH_DERIVATIVES, SPLIT,
    )  # fmt: skip
    ma, mc = slope_a.to(tl.float32), slope_c.to(tl.float32)
    gm = tl.load(metric) + ma * tl.load(metric + 1) + mc * tl.load(metric + 2)
    w_a = tl.load(metric + 1) + ma * tl.load(metric + 3) + mc * tl.load(metric + 4)
    w_c = tl.load(metric + 2) + ma * tl.load(metric + 4) + mc * tl.load(metric + 5)
    w = tl.sqrt(gm + ma * w_a + mc * w_c)
    q, per_direction = (begin - sm).to(tl.float32), 1.0 / dm.to(tl.float32)
    w, w_a, w_c = w * unit, w_a / w * unit, w_c / w * unit
    by_a, by_c = w * ga, w * gc
    turn_a = (w * (q * ga + ja) + w_a * total) * per_direction
    turn_c = (w * (q * gc + jc) + w_c * total) * per_direction
    return w * total, -ma * by_a - mc * by_c, by_a, by_c, -ma * turn_a - mc * turn_c, turn_a, turn_c


@triton.jit
@no_type_check
def _sums(
    voxels, stride_m, stride_c, shape_a, shape_c, begin, end, ahead, count, at_zero_a, at_zero_c, slope_a, slope_c,
    WITH_DERIVATIVES: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Sums over a ray's `count` planes from `ahead` on: samples, their gradients along a and c, and those times the planes
    since `begin`, the first plane of any ray of the tile."""
    row = tl.arange(0, SPLIT)[:, None]
    step_a, step_c = (slope_a * _ONE).to(tl.int64)[None, :], (slope_c * _ONE).to(tl.int64)[None, :]
    x = ((at_zero_a + begin * slope_a) * _ONE).to(tl.int64)[None, :] + row * step_a
    y = ((at_zero_c + begin * slope_c) * _ONE).to(tl.int64)[None, :] + row * step_c
    total = tl.zeros([SPLIT, count.shape[0]], tl.float32)
    ga, gc, ja, jc = total, total, total, total
    for first in range(begin, end, SPLIT):
        ia, ic = (x >> 32).to(tl.uint32), (y >> 32).to(tl.uint32)  # unsigned, so that below zero is beyond the end
        seen = (
            ((first + row - ahead[None, :]).to(tl.uint32) < count[None, :].to(tl.uint32))
            & (ia < shape_a - 1)
            & (ic < shape_c - 1)
        )
        fa, fc = _within_voxel(x), _within_voxel(y)
        near_row = voxels + first * stride_m + (row * stride_m + ia.to(tl.int32) + ic.to(tl.int32) * stride_c)
        far_row = near_row + stride_c
        v00 = tl.load(near_row, mask=seen, other=0.0).to(tl.float32)
        v10 = tl.load(near_row + 1, mask=seen, other=0.0).to(tl.float32)
        v01 = tl.load(far_row, mask=seen, other=0.0).to(tl.float32)
        v11 = tl.load(far_row + 1, mask=seen, other=0.0).to(tl.float32)
        near_a, far_a = v10 - v00, v11 - v01
        near = v00 + fa * near_a
        along_c = v01 + fa * far_a - near
        total += near + fc * along_c
        if WITH_DERIVATIVES:
            j = (first - begin + row).to(tl.float32)
            along_a = near_a + fc * (far_a - near_a)
            ga += along_a
            gc += along_c
            ja += j * along_a
            jc += j * along_c
        x += SPLIT * step_a
        y += SPLIT * step_c
    return tl.sum(total, axis=0), tl.sum(ga, axis=0), tl.sum(gc, axis=0), tl.sum(ja, axis=0), tl.sum(jc, axis=0)


@triton.jit
@no_type_check
def _within_voxel(x):
    """The fraction of a fixed-point position; its last bit would not fit a signed number."""
    return ((x & 0xFFFFFFFF) >> 1).to(tl.int32).to(tl.float32) * (1.0 / 2147483648.0)


@triton.jit
@no_type_check
def _across(axis):
    """a and c of a march axis: (j, k), (i, k), (i, j)."""
    return tl.where(axis == 0, 1, 0), tl.where(axis == 2, 1, 2)


@triton.jit
@no_type_check
def _direction(row, u, v):
    return tl.load(row) * u + tl.load(row + 1) * v + tl.load(row + 2)


@triton.jit
@no_type_check
def _crossed(at_zero, slope, shape):
    """The planes between which a ray is within the grid across one axis; float32, so they want a plane of slack."""
    flat = tl.abs(slope) < 1e-6
    per_slope = 1.0 / tl.where(flat, 1.0, slope)
    one, other = -at_zero * per_slope, (shape - 1 - at_zero) * per_slope
    low, high = tl.minimum(one, other), tl.maximum(one, other)
    return tl.where(flat, -_FAR, tl.maximum(low, -_FAR)), tl.where(flat, _FAR, tl.minimum(high, _FAR))


@triton.jit
@no_type_check
def _column(by_source, by_direction, axis, u, v, a0, a1, a2, b0, b1, b2):
    """The derivative to a parameter that moves the source and the direction matrix (rows i, j, k) by these."""
    a_axis, c_axis = _across(axis)
    moved = a0 * tl.load(by_source + axis) + a1 * tl.load(by_source + a_axis) + a2 * tl.load(by_source + c_axis)
    moved += b0 * _direction(by_direction + 3 * axis, u, v)
    moved += b1 * _direction(by_direction + 3 * a_axis, u, v)
    return moved + b2 * _direction(by_direction + 3 * c_axis, u, v)
