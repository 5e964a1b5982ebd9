"""Digitally reconstructed radiographs of a posed CT and their derivatives: the glue that every backend shares.

`project` is for autograd: a loss of the image reaches the pose and the intrinsics. A backend's seven numbers a ray suffice, so
its forward keeps them and its backward is two sums over the image: `grad_s = sum g dI/ds`, `grad_M = sum g dI/dd (u, v, 1)^T`.
`project_with_jacobian` is for Gauss-Newton: the image and its six derivatives to a twist of the pose, in one pass.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.rays import rays_of_views, twist_tangents
from fluoro_reg.rendering.renderer import AbstractRenderer, Rays, homogeneous_pixels


def project(
    renderer: AbstractRenderer,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    k: Float[Tensor, "*#batch 3 3"] | None = None,
) -> Float[Tensor, "*batch height width"]:
    """The line integrals of every pixel, for one pose or a batch of them.

    Differentiable to the pose, and to `k` where the intrinsics' numbers are given as that tensor. To the volume, and twice,
    where the renderer's capabilities say so; elsewhere a backward with `create_graph` raises.
    """
    rays = rays_of_views(renderer.volume, camera_from_patient, intrinsics, k)
    if renderer.capabilities.double_backward or not _needs_gradient(rays):
        image = renderer.integrals(rays)
    else:
        image = _Projection.apply(rays.source, rays.direction_from_pixel, renderer, rays.height, rays.width)
    batch = camera_from_patient.translation.shape[:-1]
    if k is not None:
        batch = torch.broadcast_shapes(batch, k.shape[:-2])
    return image.reshape(*batch, rays.height, rays.width)


def project_with_jacobian(
    renderer: AbstractRenderer,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    pivot: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "*batch height width"], Float[Tensor, "*batch height width 6"]]:
    """The line integrals, and their derivatives to a twist [translation mm, rotation rad] about `pivot` (patient mm)."""
    batch = camera_from_patient.translation.shape[:-1]
    with torch.no_grad():
        rays = rays_of_views(renderer.volume, camera_from_patient, intrinsics)
        tangents = twist_tangents(renderer.volume, camera_from_patient, intrinsics, pivot)
        both = renderer.jacobian(rays, tangents)
    both = both.reshape(*batch, *both.shape[1:]) if len(batch) != 1 else both
    return both[..., 0], both[..., 1:]


def _needs_gradient(rays: Rays) -> bool:
    return torch.is_grad_enabled() and (rays.source.requires_grad or rays.direction_from_pixel.requires_grad)


class _Projection(torch.autograd.Function):
    """Line integrals of a backend that returns moments but builds no graph."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, direction: Tensor, renderer: AbstractRenderer, height: int, width: int) -> Tensor:
        moments = renderer.moments(Rays(source.detach(), direction.detach(), height, width))
        ctx.save_for_backward(moments)
        return moments[..., 0].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        if torch.is_grad_enabled():  # create_graph: torch would take the moments for constants and be silently wrong
            raise RuntimeError(
                "this renderer cannot be differentiated twice; use the torch renderer where create_graph is needed"
            )
        (moments,) = ctx.saved_tensors
        pixels = homogeneous_pixels(gradient.shape[1], gradient.shape[2], torch.float32, moments.device)
        by_source = torch.einsum("bhw,bhwi->bi", gradient, moments[..., 1:4])
        by_direction = torch.einsum("bhw,bhwi,hwj->bij", gradient, moments[..., 4:7], pixels)
        return by_source.to("cpu", torch.float64), by_direction.to("cpu", torch.float64), None, None, None
