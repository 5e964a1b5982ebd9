"""Digitally reconstructed radiographs of a CT at a pose, and their derivatives, for every backend.

`project` is for autograd: a loss of the image reaches the pose and the intrinsics (`fluoro_reg.rendering.backends.autograd`).
`project_with_jacobian` is for Gauss-Newton: the image and its six derivatives with respect to a twist of the pose, in one pass.
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
    """Return the line integrals of every pixel, for one pose or a batch of poses.

    The result is differentiable with respect to the pose and to `k`. It is differentiable with respect to the volume, and
    twice, if the renderer's capabilities include that; otherwise a backward pass with `create_graph` raises RuntimeError.

    Args:
        renderer: the renderer of the CT.
        camera_from_patient: the poses.
        intrinsics: the camera.
        k: camera matrices that replace those of the intrinsics.
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
    """Return the line integrals and their derivatives with respect to a twist.

    The twist is [translation mm, rotation rad] about `pivot` (patient mm).
    """
    channels = project_channels(renderer, camera_from_patient, intrinsics, pivot)
    return channels[..., 0], channels[..., 1:]


def project_channels(
    renderer: AbstractRenderer,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    pivot: Float[Tensor, "3"],
) -> Float[Tensor, "*batch height width 7"]:
    """Return what `project_with_jacobian` returns, in one tensor, which leaves a GPU in one copy."""
    batch = camera_from_patient.translation.shape[:-1]
    with torch.no_grad():
        pose = camera_from_patient.to("cpu", torch.float64)
        geometry = ViewGeometry.from_volume(renderer.volume, intrinsics)
        channels = renderer.jacobian(geometry.rays(pose), geometry.twist_tangents(pose, pivot.to("cpu", torch.float64)))
    return channels.reshape(*batch, *channels.shape[1:]) if len(batch) != 1 else channels
