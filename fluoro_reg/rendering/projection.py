"""Digitally reconstructed radiographs of a posed CT and their derivatives: the glue that every backend shares.

`project` is for autograd: a loss of the image reaches the pose and the intrinsics (`fluoro_reg.rendering.backends.autograd`).
`project_with_jacobian` is for Gauss-Newton: the image and its six derivatives to a twist of the pose, in one pass.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering.rays import ViewGeometry, rays_of_views
from fluoro_reg.rendering.renderer import AbstractRenderer


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
    image = renderer.integrals(rays_of_views(renderer.volume, camera_from_patient, intrinsics, k))
    batch = camera_from_patient.translation.shape[:-1]
    if k is not None:
        batch = torch.broadcast_shapes(batch, k.shape[:-2])
    return image.reshape(*batch, *image.shape[1:])


def project_with_jacobian(
    renderer: AbstractRenderer,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    pivot: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "*batch height width"], Float[Tensor, "*batch height width 6"]]:
    """The line integrals, and their derivatives to a twist [translation mm, rotation rad] about `pivot` (patient mm)."""
    batch = camera_from_patient.translation.shape[:-1]
    with torch.no_grad():
        pose = camera_from_patient.to("cpu", torch.float64)
        geometry = ViewGeometry.of(renderer.volume, intrinsics)
        both = renderer.jacobian(geometry.rays(pose), geometry.twist_tangents(pose, pivot.to("cpu", torch.float64)))
    both = both.reshape(*batch, *both.shape[1:]) if len(batch) != 1 else both
    return both[..., 0], both[..., 1:]
