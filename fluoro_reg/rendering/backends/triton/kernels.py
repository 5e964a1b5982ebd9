"""Triton kernels that march rays through the volume: Joseph's quadrature with the moments of each ray.

The mathematics is that of `fluoro_reg.rendering.backends.numba.kernels`; the organisation suits a GPU. A program processes a
tile of rays that march through the same planes together, so that the voxels of a plane are read from memory once and then from
the cache. `SPLIT` rows of lanes take the planes of a tile in turn, because one view alone has too few rays to fill a GPU.
Planes are the slow axis of memory, unlike on a CPU.

Positions are fixed-point, with 32 bits for the voxel and 32 for the fraction. The upper half is the index itself, and float64,
which is slow on most GPUs, is needed only in the set-up of a ray. A sample counts if its four voxels are in the grid, so the
range of planes need not be exact. Sums are float32 whatever the type of the voxels.

In the order (m, a, c), m is the march axis and a and c are the axes across, where voxels that are neighbours along a are
neighbours in memory. `layout` describes that order for each march axis: offset, strides of m and c, shape (m, a, c). `metric`
has the entries mm, ma, mc, aa, ac, cc of a step's metric, mm^2. `scale` is the attenuation of a voxel with value 1.
"""

from typing import no_type_check  # with a run-time type checker, Triton would otherwise compile the checker's wrapper

import triton
import triton.language as tl

from fluoro_reg.rendering.rays import MAX_SLOPE

LAYOUT_SIZE = tl.constexpr(6)
_MAX_SLOPE = tl.constexpr(MAX_SLOPE)
_FIXED_POINT_ONE = tl.constexpr(2.0**32)  # one voxel
_UNBOUNDED = tl.constexpr(1e9)  # planes


@triton.jit(do_not_specialize=["height", "width", "scale"])
@no_type_check
def march_kernel(
    voxels, layout, metric, scale, source, direction, source_tangent, direction_tangent, axes, out, height, width,
    PARAMETERS: tl.constexpr, SPLIT: tl.constexpr, TILE_V: tl.constexpr, TILE_U: tl.constexpr,
):  # fmt: skip
    """Compute integrals and their derivatives with respect to parameters.

    out: [batch, 1 + PARAMETERS, height, width]; grid: (batch * tiles,).
    """
    view, _, u, v, inside = _tile_pixels(height, width, TILE_V, TILE_U)
    axis = tl.load(axes + view)
    image, gs_m, gs_a, gs_c, gd_m, gd_a, gd_c = _ray_moments(
        voxels, layout + LAYOUT_SIZE * axis, metric + 6 * axis, scale, source + 3 * view, direction + 9 * view, axis, u, v,
        inside, PARAMETERS > 0, SPLIT,
    )  # fmt: skip
    pointer = out + view.to(tl.int64) * (1 + PARAMETERS) * height * width + v * width + u
    tl.store(pointer, image, mask=inside)
    for p in tl.static_range(PARAMETERS):
        tangent = view * PARAMETERS + p
        column = _directional_derivative(
            source_tangent + 3 * tangent, direction_tangent + 9 * tangent, axis, u, v, gs_m, gs_a, gs_c, gd_m, gd_a, gd_c
        )
        tl.store(pointer + (1 + p) * height * width, column, mask=inside)


@triton.jit(do_not_specialize=["height", "width", "scale"])
@no_type_check
def gram_kernel(
    voxels, layout, metric, scale, source, direction, source_tangent, direction_tangent, axes, fixed, weight, out,
    height, width, PARAMETERS: tl.constexpr, SPLIT: tl.constexpr, TILE_V: tl.constexpr, TILE_U: tl.constexpr,
):  # fmt: skip
    """Sum weighted products of [1, F, I, dI/dparameter ...] by tile. out: [batch, tiles, 16, 16]; grid: (batch * tiles,).

    `fixed` (F) and `weight` are [batch, height, width]. Neither images nor Jacobians are written to memory.
    """
    view, tile, u, v, inside = _tile_pixels(height, width, TILE_V, TILE_U)
    axis = tl.load(axes + view)
    image, gs_m, gs_a, gs_c, gd_m, gd_a, gd_c = _ray_moments(
        voxels, layout + LAYOUT_SIZE * axis, metric + 6 * axis, scale, source + 3 * view, direction + 9 * view, axis, u, v,
        inside, PARAMETERS > 0, SPLIT,
    )  # fmt: skip
    pixel = view.to(tl.int64) * height * width + v * width + u
    row = tl.arange(0, 16)[:, None]
    x = tl.where(row == 0, 1.0, 0.0) + tl.where(row == 1, tl.load(fixed + pixel, mask=inside, other=0.0)[None, :], 0.0)
    x = tl.where(row == 2, image[None, :], x)
    for p in tl.static_range(PARAMETERS):
        tangent = view * PARAMETERS + p
        column = _directional_derivative(
            source_tangent + 3 * tangent, direction_tangent + 9 * tangent, axis, u, v, gs_m, gs_a, gs_c, gd_m, gd_a, gd_c
        )
        x = tl.where(row == 3 + p, column[None, :], x)
    w = tl.load(weight + pixel, mask=inside, other=0.0)
    products = tl.dot(x * w[None, :], tl.trans(x), input_precision="ieee")
    pointer = out + (view.to(tl.int64) * tl.cdiv(height, TILE_V) * tl.cdiv(width, TILE_U) + tile) * 256
    tl.store(pointer + row * 16 + tl.arange(0, 16)[None, :], products)


@triton.jit
@no_type_check
def _tile_pixels(height, width, TILE_V: tl.constexpr, TILE_U: tl.constexpr):
    """Return view and tile of this program, the pixels of the tile, and which of them are inside the image."""
    across = tl.cdiv(width, TILE_U)
    tiles = across * tl.cdiv(height, TILE_V)
    view, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    lane = tl.arange(0, TILE_V * TILE_U)
    v = tile // across * TILE_V + lane // TILE_U
    u = tile % across * TILE_U + lane % TILE_U
    return view, tile, u, v, (v < height) & (u < width)


@triton.jit
@no_type_check
def _ray_moments(
    voxels, layout, metric, scale, source, direction, axis, u, v, inside, WITH_DERIVATIVES: tl.constexpr, SPLIT: tl.constexpr
):
    """Return I, dI/ds (m, a, c) and dI/dd (m, a, c) of a tile of rays."""
    a_axis, c_axis = _in_plane_axes(axis)
    sm, sa, sc = tl.load(source + axis), tl.load(source + a_axis), tl.load(source + c_axis)
    dm = _ray_direction(direction + 3 * axis, u, v)
    da, dc = _ray_direction(direction + 3 * a_axis, u, v), _ray_direction(direction + 3 * c_axis, u, v)
    marches = inside & (tl.abs(da) < _MAX_SLOPE * tl.abs(dm)) & (tl.abs(dc) < _MAX_SLOPE * tl.abs(dm))
    dm = tl.where(marches, dm, 1.0)
    slope_a, slope_c = tl.where(marches, da / dm, 0.0), tl.where(marches, dc / dm, 0.0)
    at_zero_a, at_zero_c = sa - sm * slope_a, sc - sm * slope_c

    shape_m, shape_a, shape_c = tl.load(layout + 3), tl.load(layout + 4), tl.load(layout + 5)
    first_plane = tl.where(dm > 0, tl.ceil(sm), 1.0).to(tl.int32)
    last_plane = tl.where(dm > 0, shape_m - 2, tl.floor(sm)).to(tl.int32)
    low_a, high_a = _plane_bounds(at_zero_a.to(tl.float32), slope_a.to(tl.float32), shape_a)
    low_c, high_c = _plane_bounds(at_zero_c.to(tl.float32), slope_c.to(tl.float32), shape_c)
    low, high = tl.maximum(low_a, low_c), tl.minimum(high_a, high_c)
    marches = marches & (low <= high + 2)
    begin = tl.min(tl.where(marches, low, _UNBOUNDED), axis=0).to(tl.int32) - 1
    end = tl.max(tl.where(marches, high, -_UNBOUNDED), axis=0).to(tl.int32) + 2
    begin, end = tl.minimum(tl.maximum(begin, 1), shape_m - 1), tl.minimum(tl.maximum(end, 1), shape_m - 1)
    first_plane, last_plane = tl.maximum(first_plane, begin), tl.where(marches, tl.minimum(last_plane, end - 1), -1)
    total, ga, gc, ja, jc = _sum_samples(
        voxels + tl.load(layout), tl.load(layout + 1), tl.load(layout + 2), shape_a, shape_c, begin, end, first_plane,
        tl.maximum(last_plane + 1 - first_plane, 0), at_zero_a, at_zero_c, slope_a, slope_c, WITH_DERIVATIVES, SPLIT,
    )  # fmt: skip
    ma, mc = slope_a.to(tl.float32), slope_c.to(tl.float32)
    gm = tl.load(metric) + ma * tl.load(metric + 1) + mc * tl.load(metric + 2)
    w_a = tl.load(metric + 1) + ma * tl.load(metric + 3) + mc * tl.load(metric + 4)
    w_c = tl.load(metric + 2) + ma * tl.load(metric + 4) + mc * tl.load(metric + 5)
    w = tl.sqrt(gm + ma * w_a + mc * w_c)
    q, per_direction = (begin - sm).to(tl.float32), 1.0 / dm.to(tl.float32)
    w, w_a, w_c = w * scale, w_a / w * scale, w_c / w * scale
    grad_source_a, grad_source_c = w * ga, w * gc
    grad_direction_a = (w * (q * ga + ja) + w_a * total) * per_direction
    grad_direction_c = (w * (q * gc + jc) + w_c * total) * per_direction
    return (
        w * total,
        -ma * grad_source_a - mc * grad_source_c,
        grad_source_a,
        grad_source_c,
        -ma * grad_direction_a - mc * grad_direction_c,
        grad_direction_a,
        grad_direction_c,
    )


@triton.jit
@no_type_check
def _sum_samples(
    voxels, stride_m, stride_c, shape_a, shape_c, begin, end, first_plane, count, at_zero_a, at_zero_c, slope_a, slope_c,
    WITH_DERIVATIVES: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Sum over `count` planes of each ray, starting at `first_plane`.

    The sums are of the samples, of their gradients along a and c, and of these times the planes since `begin`, which is the
    first plane of any ray of the tile.
    """
    row = tl.arange(0, SPLIT)[:, None]
    step_a, step_c = (slope_a * _FIXED_POINT_ONE).to(tl.int64)[None, :], (slope_c * _FIXED_POINT_ONE).to(tl.int64)[None, :]
    x = ((at_zero_a + begin * slope_a) * _FIXED_POINT_ONE).to(tl.int64)[None, :] + row * step_a
    y = ((at_zero_c + begin * slope_c) * _FIXED_POINT_ONE).to(tl.int64)[None, :] + row * step_c
    total = tl.zeros([SPLIT, count.shape[0]], tl.float32)
    ga, gc, ja, jc = total, total, total, total
    for first in range(begin, end, SPLIT):
        ia, ic = (x >> 32).to(tl.uint32), (y >> 32).to(tl.uint32)  # unsigned, so that negative indices are out of range
        valid = (
            ((first + row - first_plane[None, :]).to(tl.uint32) < count[None, :].to(tl.uint32))
            & (ia < shape_a - 1)
            & (ic < shape_c - 1)
        )
        fa, fc = _fraction(x), _fraction(y)
        near_row = voxels + first * stride_m + (row * stride_m + ia.to(tl.int32) + ic.to(tl.int32) * stride_c)
        far_row = near_row + stride_c
        v00 = tl.load(near_row, mask=valid, other=0.0).to(tl.float32)
        v10 = tl.load(near_row + 1, mask=valid, other=0.0).to(tl.float32)
        v01 = tl.load(far_row, mask=valid, other=0.0).to(tl.float32)
        v11 = tl.load(far_row + 1, mask=valid, other=0.0).to(tl.float32)
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
def _fraction(x):
    """Return the fraction of a fixed-point position, without its last bit, which would not fit a signed number."""
    return ((x & 0xFFFFFFFF) >> 1).to(tl.int32).to(tl.float32) * (1.0 / 2147483648.0)


@triton.jit
@no_type_check
def _in_plane_axes(axis):
    """Return a and c of a march axis: (j, k), (i, k), (i, j)."""
    return tl.where(axis == 0, 1, 0), tl.where(axis == 2, 1, 2)


@triton.jit
@no_type_check
def _ray_direction(row, u, v):
    return tl.load(row) * u + tl.load(row + 1) * v + tl.load(row + 2)


@triton.jit
@no_type_check
def _plane_bounds(at_zero, slope, shape):
    """Return the planes between which a ray is within the grid across one axis; float32, so allow a plane of slack."""
    flat = tl.abs(slope) < 1e-6
    per_slope = 1.0 / tl.where(flat, 1.0, slope)
    one, other = -at_zero * per_slope, (shape - 1 - at_zero) * per_slope
    low, high = tl.minimum(one, other), tl.maximum(one, other)
    return tl.where(flat, -_UNBOUNDED, tl.maximum(low, -_UNBOUNDED)), tl.where(flat, _UNBOUNDED, tl.minimum(high, _UNBOUNDED))


@triton.jit
@no_type_check
def _directional_derivative(source_tangent, direction_tangent, axis, u, v, gs_m, gs_a, gs_c, gd_m, gd_a, gd_c):
    """Return the derivative with respect to a parameter.

    Its tangents are those of the source and the direction matrix (rows i, j, k).
    """
    a_axis, c_axis = _in_plane_axes(axis)
    tangent = (
        gs_m * tl.load(source_tangent + axis)
        + gs_a * tl.load(source_tangent + a_axis)
        + gs_c * tl.load(source_tangent + c_axis)
    )
    tangent += gd_m * _ray_direction(direction_tangent + 3 * axis, u, v)
    tangent += gd_a * _ray_direction(direction_tangent + 3 * a_axis, u, v)
    return tangent + gd_c * _ray_direction(direction_tangent + 3 * c_axis, u, v)
