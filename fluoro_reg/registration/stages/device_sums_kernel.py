"""The Triton kernel behind `device_sums`, as the torch operator `fluoro_reg::gradient_sums`, which a CUDA graph can capture."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from fluoro_reg.registration.tracking.device_kernels import TWIST, sobel

_LANES = 128  # pixels of a program
_Z, _ONE, _RESIDUAL = tl.constexpr(6), tl.constexpr(7), tl.constexpr(8)
_LOSS, _FLAT, _ALONG = tl.constexpr(9), tl.constexpr(10), tl.constexpr(11)


@triton.jit(do_not_specialize=["robust_scale", "height", "width", "programs"])
@no_type_check
def batch_sums_kernel(
    images, target, weight, fit, out, robust_scale, height, width, programs, ROBUST: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The sums of `gradient_sums_in_torch` over LANES pixels; grid: (batch * programs,). out: [batch, programs, 16, 16]."""
    view, part = tl.program_id(0) // programs, tl.program_id(0) % programs
    pixels = height * width
    pixel = part * LANES + tl.arange(0, LANES)
    u, v = pixel % width, pixel // width
    inside = (u >= 1) & (u < width - 1) & (v >= 1) & (v < height - 1)
    images += view.to(tl.int64) * (1 + TWIST) * pixels
    target += view.to(tl.int64) * 2 * pixels
    w = tl.load(weight + view.to(tl.int64) * pixels + pixel, mask=inside, other=0.0)
    gain, offset = tl.load(fit + 2 * view), tl.load(fit + 2 * view + 1)
    row, column = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]
    sums, loss = tl.zeros([16, 16], tl.float32), tl.zeros([LANES], tl.float32)
    flat, weighted = tl.zeros([16], tl.float32), tl.zeros([16], tl.float32)
    for direction in tl.static_range(2):
        along, across = (1, width) if direction == 0 else (width, 1)
        z = gain * sobel(images, 0, pixel, along, across, pixels, 0.0, inside, False) + offset
        residual = z - tl.load(target + direction * pixels + pixel, mask=inside, other=0.0)
        x = tl.where(row == _Z, z[None, :], 0.0)
        x = tl.where(row == _ONE, 1.0, x)
        x = tl.where(row == _RESIDUAL, residual[None, :], x)
        for p in tl.static_range(TWIST):
            slope = sobel(images, 1 + p, pixel, along, across, pixels, 0.0, inside, False)
            x = tl.where(row == p, slope[None, :], x)
        squared = residual * residual
        ratio = robust_scale / (squared + robust_scale) if ROBUST else tl.full([LANES], 1.0, tl.float32)
        loss += w * squared * ratio
        sums += tl.dot(x * (w * ratio * ratio)[None, :], tl.trans(x), input_precision="ieee")
        flat += tl.sum(x * w[None, :], axis=1)
        weighted += tl.sum(x * (w * z)[None, :], axis=1)
    sums = tl.where((row == _LOSS) & (column == 0), tl.sum(loss, axis=0), sums)
    sums = tl.where(row == _FLAT, flat[None, :], sums)
    sums = tl.where(row == _ALONG, weighted[None, :], sums)
    tl.store(out + tl.program_id(0).to(tl.int64) * 256 + row * 16 + column, sums)


@torch.library.custom_op("fluoro_reg::gradient_sums", mutates_args=())
def gradient_sums(images: Tensor, target: Tensor, weight: Tensor, fit: Tensor, robust_scale: float) -> Tensor:
    """Return [batch, 16, 16], float64: the robust sums, that of the losses in [9, 0], and the two others in rows 10 and 11.

    A negative `robust_scale` is an infinite one.
    """
    batch, _, height, width = images.shape
    programs = triton.cdiv(height * width, _LANES)
    out = torch.empty(batch, programs, 16, 16, device=images.device, dtype=torch.float32)
    batch_sums_kernel[(batch * programs,)](
        images, target, weight, fit, out, robust_scale, height, width, programs, ROBUST=robust_scale > 0, LANES=_LANES,
        num_warps=4,
    )  # fmt: skip
    return out.sum(1, dtype=torch.float64)


@gradient_sums.register_fake
def _(images, target, weight, fit, robust_scale):  # type: ignore[no-untyped-def]
    return images.new_empty(len(images), 16, 16, dtype=torch.float64)
