"""Backward pass of the fast backends: gradients with respect to the rays, from the moments that the forward pass saved.

With g the gradient of the loss with respect to the image, `grad_s = sum g dI/ds` and `grad_M = sum g dI/dd (u, v, 1)^T`. These
two sums over the image do not depend on how pose and camera are parametrised.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.rendering.renderer import AbstractRenderer, Rays, homogeneous_pixels


def differentiable_integrals(renderer: AbstractRenderer, rays: Rays) -> Float[Tensor, "batch height width"]:
    """Return line integrals that are differentiable once with respect to the rays.

    The backend computes moments but builds no graph.
    """
    return _DifferentiableIntegrals.apply(rays.source, rays.direction_from_pixel, renderer, rays.height, rays.width, rays.axes)


def ray_gradients(
    gradient: Float[Tensor, "batch height width"], moments: Float[Tensor, "batch 6 height width"]
) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3 3"]]:
    """Return the gradients of a loss with respect to source and direction matrix, float64.

    Args:
        gradient: the gradient of the loss with respect to the image.
        moments: [dI/ds, dI/dd] of every pixel, in voxel units.

    Raises:
        RuntimeError: under `create_graph`, where torch would treat the moments as constants and silently give wrong results.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("this renderer cannot be differentiated twice; use the torch renderer where create_graph is needed")
    pixels = homogeneous_pixels(gradient.shape[1], gradient.shape[2], moments.dtype, moments.device)
    grad_source = torch.einsum("bhw,bihw->bi", gradient, moments[:, :3])
    grad_direction = torch.einsum("bhw,bihw,hwj->bij", gradient, moments[:, 3:], pixels)
    return grad_source.double(), grad_direction.double()


def needs_gradient(rays: Rays) -> bool:
    """Return whether autograd needs a graph for these rays."""
    return torch.is_grad_enabled() and (rays.source.requires_grad or rays.direction_from_pixel.requires_grad)


class _DifferentiableIntegrals(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, direction: Tensor, renderer: AbstractRenderer, height: int, width: int, axes: Tensor | None
    ) -> Tensor:
        moments = renderer.moments(Rays(source.detach(), direction.detach(), height, width, axes)).movedim(-1, 1)
        ctx.save_for_backward(moments[:, 1:])
        return moments[:, 0].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (moments,) = ctx.saved_tensors
        grad_source, grad_direction = ray_gradients(gradient, moments)
        return grad_source, grad_direction, None, None, None, None
