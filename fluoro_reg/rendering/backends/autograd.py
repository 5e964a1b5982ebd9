"""The backward of every fast backend: from a loss of the image to the rays, by the moments that the forward kept.

`grad_s = sum g dI/ds` and `grad_M = sum g dI/dd (u, v, 1)^T`: two sums over the image, whatever the pose and the camera are.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.rendering.renderer import AbstractRenderer, Rays, homogeneous_pixels


def differentiable_integrals(renderer: AbstractRenderer, rays: Rays) -> Float[Tensor, "batch height width"]:
    """The integrals of a backend that returns moments but builds no graph, differentiable (once) to the rays."""
    return _Integrals.apply(rays.source, rays.direction_from_pixel, renderer, rays.height, rays.width, rays.axes)


def ray_gradients(
    gradient: Float[Tensor, "batch height width"], by_ray: Float[Tensor, "batch 6 height width"]
) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3 3"]]:
    """A loss's derivatives to source and direction matrix, float64, from those to the image and from [dI/ds, dI/dd].

    Raises:
        RuntimeError: under `create_graph`; torch would take the moments for constants and be silently wrong.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("this renderer cannot be differentiated twice; use the torch renderer where create_graph is needed")
    pixels = homogeneous_pixels(gradient.shape[1], gradient.shape[2], by_ray.dtype, by_ray.device)
    by_source = torch.einsum("bhw,bihw->bi", gradient, by_ray[:, :3])
    by_direction = torch.einsum("bhw,bihw,hwj->bij", gradient, by_ray[:, 3:], pixels)
    return by_source.double(), by_direction.double()


def needs_gradient(rays: Rays) -> bool:
    return torch.is_grad_enabled() and (rays.source.requires_grad or rays.direction_from_pixel.requires_grad)


class _Integrals(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, direction: Tensor, renderer: AbstractRenderer, height: int, width: int, axes: Tensor | None
    ) -> Tensor:
        moments = renderer.moments(Rays(source.detach(), direction.detach(), height, width, axes)).movedim(-1, 1)
        ctx.save_for_backward(moments[:, 1:])
        return moments[:, 0].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (by_ray,) = ctx.saved_tensors
        by_source, by_direction = ray_gradients(gradient, by_ray)
        return by_source, by_direction, None, None, None, None
