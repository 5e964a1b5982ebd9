"""The sums of gradient NCC's normal equations over a batch of images, on the images' device.

In torch operations every derivative of every pixel would go through memory ten times. On a GPU one Triton kernel reads the
image and its derivatives once. `gradient_sums_in_torch` is its twin, which runs anywhere.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.similarity.gradient_ncc import sobel_gradients
from fluoro_reg.similarity.residual import geman_mcclure


def gradient_sums_in_torch(
    images: Float[Tensor, "batch 7 height width"],
    target: Float[Tensor, "batch 2 height width"],
    weight: Float[Tensor, "batch height width"],
    fit: Float[Tensor, "batch 2"],
    robust_scale: float,
) -> tuple[Float[Tensor, "batch 9 9"], Float[Tensor, "batch 2 9"], Float[Tensor, "batch"]]:
    """Sum over both directions of the gradients, in float64.

    Args:
        images: The moving image and its derivatives with respect to a twist.
        target: The standardised gradients of the fixed image.
        weight: Of the pixels; twice their sum is one. It is 0 at the border of the image.
        fit: Gain and offset, so that `z = gain g + offset`.
        robust_scale: Geman-McClure's c.

    Returns:
        Sums of `weight robust_weight x x^T` with x = [dg/dtwist (6), z, 1, residual], of `weight x` and `weight z x`, and of
        the losses.
    """
    gradients = sobel_gradients(images).flatten(2)  # batch 7 (2 height width)
    z = fit[:, :1] * gradients[:, 0] + fit[:, 1:]
    residual, w = z - target.flatten(1), weight.flatten(1).repeat(1, 2)
    loss, reweight = geman_mcclure(residual.square(), robust_scale)
    x = torch.cat([gradients[:, 1:], torch.stack([z, torch.ones_like(z), residual], dim=1)], dim=1).double()
    robust, plain = ((x * (w * reweight)[:, None]) @ x.mT), torch.stack([w, w * z], dim=1).double() @ x.mT
    return robust, plain, (w * loss).sum(-1, dtype=torch.float64)


def gradient_sums_by_kernel(
    images: Float[Tensor, "batch 7 height width"],
    target: Float[Tensor, "batch 2 height width"],
    weight: Float[Tensor, "batch height width"],
    fit: Float[Tensor, "batch 2"],
    robust_scale: float,
) -> tuple[Float[Tensor, "batch 9 9"], Float[Tensor, "batch 2 9"], Float[Tensor, "batch"]]:
    """`gradient_sums_in_torch` by a Triton kernel; float32 within a program of it."""
    from fluoro_reg.registration.stages.device_sums_kernel import gradient_sums  # it needs Triton

    scale = -1.0 if math.isinf(robust_scale) else robust_scale
    sums = gradient_sums(*(tensor.contiguous() for tensor in (images, target, weight, fit.float())), scale)
    return sums[:, :9, :9], sums[:, 10:12, :9], sums[:, 9, 0]
