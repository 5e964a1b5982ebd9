"""Triton kernels that sum up a rendered image with its derivatives, for normal equations on a GPU.

They give the sums of the numba kernels of `tracking.kernels`. The renderer writes image and derivatives to memory, where they
stay in the GPU's cache: a neighbouring pixel belongs to another program, which could otherwise only be rendered again. Sums are
float32 within a program.

`images` is [7, height, width]: line integrals and their derivatives with respect to a twist. `out` is [programs, 16, 16], of
which the caller uses the first rows and columns.
"""

from typing import no_type_check

import triton
import triton.language as tl

TWIST = tl.constexpr(6)
_GAIN, _OFFSET, _RESIDUAL, _LOSS = tl.constexpr(6), tl.constexpr(7), tl.constexpr(8), tl.constexpr(9)
_PATCH_RESIDUAL, _PATCH_LOSS = tl.constexpr(6), tl.constexpr(7)


@triton.jit(do_not_specialize=["saturation", "gain", "offset", "robust_scale", "height", "width"])
@no_type_check
def gradient_sums_kernel(
    images, target, weight, out, saturation, gain, offset, robust_scale, height, width,
    SATURATED: tl.constexpr, ROBUST: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The sums of `sum_gradient_strip`; grid: (pixels / LANES,). The border of the image does not count.

    target: [2, height, width], weight: [height, width].
    """
    pixel = tl.program_id(0) * LANES + tl.arange(0, LANES)
    u, v = pixel % width, pixel // width
    inside = (u >= 1) & (u < width - 1) & (v >= 1) & (v < height - 1)
    w = tl.load(weight + pixel, mask=inside, other=0.0)
    row, column = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]
    products = tl.zeros([16, 16], tl.float32)
    loss = tl.zeros([LANES], tl.float32)
    for direction in tl.static_range(2):
        along, across = (1, width) if direction == 0 else (width, 1)
        g = sobel(images, 0, pixel, along, across, height * width, saturation, inside, SATURATED)
        residual = gain * g + offset - tl.load(target + direction * height * width + pixel, mask=inside, other=0.0)
        x = tl.where(row == _GAIN, g[None, :], 0.0)
        x = tl.where(row == _OFFSET, 1.0, x)
        x = tl.where(row == _RESIDUAL, residual[None, :], x)
        for p in tl.static_range(TWIST):
            slope = sobel(images, 1 + p, pixel, along, across, height * width, saturation, inside, SATURATED)
            x = tl.where(row == p, slope[None, :], x)
        squared = residual * residual
        ratio = robust_scale / (squared + robust_scale) if ROBUST else tl.full([LANES], 1.0, tl.float32)
        loss += w * squared * ratio
        products += tl.dot(x * (w * ratio * ratio)[None, :], tl.trans(x), input_precision="ieee")
    products = tl.where((row == _LOSS) & (column == 0), tl.sum(loss, axis=0), products)
    tl.store(out + tl.program_id(0) * 256 + row * 16 + column, products)


@triton.jit(do_not_specialize=["saturation", "robust_scale", "floor", "pixels", "width"])
@no_type_check
def patch_sums_kernel(
    images, target, weight, patch_weight, out, saturation, robust_scale, floor, pixels, width, columns, size_v, size_u,
    SATURATED: tl.constexpr, ROBUST: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The sums of `sum_patch_strip`; grid: (patches,). LANES is a power of two that is not smaller than a patch.

    target, weight: [rows * size_v, columns * size_u]; `pixels` and `width` are those of `images`.
    """
    patch, lane = tl.program_id(0), tl.arange(0, LANES)
    inside = lane < size_v * size_u
    v, u = patch // columns * size_v + lane // size_u, patch % columns * size_u + lane % size_u
    pixel, cut = v * width + u, v * (columns * size_u) + u
    w = tl.load(weight + cut, mask=inside, other=0.0)
    seen = _moving(images, 0, pixel, pixels, saturation, inside, SATURATED)
    centred = seen - tl.sum(w * seen, axis=0)
    sd = tl.sqrt(tl.sum(w * centred * centred, axis=0) + floor)
    z = centred / sd
    residual = z - tl.load(target + cut, mask=inside, other=0.0)
    cost = tl.sum(w * residual * residual, axis=0)
    ratio = robust_scale / (cost + robust_scale) if ROBUST else cost * 0.0 + 1.0
    row, column = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]
    x = tl.where(row == _PATCH_RESIDUAL, residual[None, :], 0.0)
    for p in tl.static_range(TWIST):
        slope = _moving(images, 1 + p, pixel, pixels, saturation, inside, SATURATED)
        standardised = (slope - tl.sum(w * slope, axis=0) - z * tl.sum(w * z * slope, axis=0)) / sd
        x = tl.where(row == p, standardised[None, :], x)
    importance = tl.load(patch_weight + patch)
    products = tl.dot(x * (w * importance * ratio * ratio)[None, :], tl.trans(x), input_precision="ieee")
    products = tl.where((row == _PATCH_LOSS) & (column == 0), importance * cost * ratio, products)
    tl.store(out + patch * 256 + row * 16 + column, products)


@triton.jit
@no_type_check
def sobel(images, channel, pixel, along, across, pixels, saturation, inside, SATURATED: tl.constexpr):
    """The derivative of a channel along one direction, smoothed across it, per pixel."""
    total = tl.zeros([pixel.shape[0]], tl.float32)
    for step in tl.static_range(-1, 2):
        beside = pixel + step * across
        ahead = _moving(images, channel, beside + along, pixels, saturation, inside, SATURATED)
        behind = _moving(images, channel, beside - along, pixels, saturation, inside, SATURATED)
        total += (ahead - behind) * (0.25 if step == 0 else 0.125)
    return total


@triton.jit
@no_type_check
def _moving(images, channel, pixel, pixels, saturation, inside, SATURATED: tl.constexpr):
    """The moving image (channel 0), 1 - exp(-S L) if it saturates, or one of its derivatives."""
    value = tl.load(images + channel * pixels + pixel, mask=inside, other=0.0)
    if SATURATED:
        passed = tl.exp(-saturation * tl.load(images + pixel, mask=inside, other=0.0))
        value = tl.where(channel == 0, 1.0 - passed, saturation * passed * value)
    return value
