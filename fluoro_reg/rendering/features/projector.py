"""`project_features` together with its six derivatives with respect to the pose, for the training of learned similarities.

On a CPU, compiled kernels compute image and derivatives at once as linear functions of the volume. The loss on the direction of
a gradient needs the derivative of the projection with respect to the pose and the dependence of that derivative on the volume,
but never the second derivative with respect to the pose. On a GPU, and as the oracle in tests, `project_features` is
differentiated along each direction in forward mode by autograd, which takes several times the processor time
(`benchmarks/feature_projector.py`).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.rendering.features.kernels import FeatureViews, project_rows, transpose_rows
from fluoro_reg.rendering.features.spatial_transformer import project_features
from fluoro_reg.rendering.rays import ViewGeometry
from fluoro_reg.rendering.renderer import homogeneous_pixels
from fluoro_reg.rendering.threads import parallel_for

_ACCUMULATORS = 8  # parts of a batch's rows, each with its own volume to add to


def project_features_with_jacobian(
    features: Float[Tensor, "channels slices rows columns"],
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    samples: int,
    pivot: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels height width 6"]]:
    """Return the result of `project_features` and its derivatives with respect to a twist [mm, rad] about `pivot` (patient mm).

    Both are differentiable with respect to the features, once and twice. The poses are treated as constants.
    """
    poses = RigidTransform(camera_from_patient.rotation.detach(), camera_from_patient.translation.detach())
    if features.device.type != "cpu" or features.dtype != torch.float32:
        return _by_autograd(features, volume, poses, intrinsics, samples, pivot)
    image_and_jacobian = _Projection.apply(features, _views(volume, poses, intrinsics, pivot), samples)
    return image_and_jacobian[:, 0], image_and_jacobian[:, 1:].movedim(1, -1)


def _by_autograd(
    features: Float[Tensor, "channels slices rows columns"],
    volume: CTVolume,
    poses: RigidTransform,
    intrinsics: CameraIntrinsics,
    samples: int,
    pivot: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels height width 6"]]:
    pivot = pivot.to(poses.translation)
    twist = poses.translation.new_zeros(len(poses.translation), 6)

    def image(twist: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch channels height width"]:
        return project_features(features, volume, retract(poses, twist, pivot), intrinsics, samples)

    directions = torch.eye(6, dtype=twist.dtype, device=twist.device)
    parts = [torch.func.jvp(image, (twist,), (direction.expand_as(twist).contiguous(),)) for direction in directions]
    return parts[0][0], torch.stack([derivative for _, derivative in parts], dim=-1)


class _Projection(torch.autograd.Function):
    """Map features to the image and its six derivatives with respect to a twist: [view, 7, channel, row, column]."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, views: FeatureViews, samples: int) -> Tensor:
        padded = torch.nn.functional.pad(features.detach(), (1,) * 6).movedim(0, -1).contiguous()
        height, width = views.mm_per_depth.shape
        out = np.empty((len(views.source), height, width, 7, len(features)), np.float32)
        voxels = padded.numpy()
        parallel_for(lambda a, b: project_rows(voxels, views, samples, a, b, out), len(out) * height)
        ctx.views, ctx.samples, ctx.shape = views, samples, padded.shape
        return torch.from_numpy(out).permute(0, 3, 4, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _ProjectionTranspose.apply(gradients[0], ctx.views, ctx.samples, ctx.shape), None, None


class _ProjectionTranspose(torch.autograd.Function):
    """The transpose of `_Projection`; its own transpose is `_Projection` again."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, views: FeatureViews, samples: int, shape: tuple[int, ...]) -> Tensor:
        pixel_gradients = np.ascontiguousarray(gradient.detach().permute(0, 3, 4, 1, 2).numpy())
        rows, parts = len(pixel_gradients) * pixel_gradients.shape[1], np.zeros((_ACCUMULATORS, *shape), np.float32)

        def add(first: int, last: int) -> None:
            for part in range(first, last):
                transpose_rows(
                    pixel_gradients,
                    views,
                    samples,
                    rows * part // _ACCUMULATORS,
                    rows * (part + 1) // _ACCUMULATORS,
                    parts[part],
                )

        parallel_for(add, _ACCUMULATORS)
        ctx.views, ctx.samples = views, samples
        total = parts.sum(0)  # in a fixed order, so that results are reproducible bit by bit
        return torch.from_numpy(total)[1:-1, 1:-1, 1:-1].movedim(-1, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Projection.apply(gradients[0], ctx.views, ctx.samples), None, None, None


def _views(volume: CTVolume, poses: RigidTransform, intrinsics: CameraIntrinsics, pivot: Tensor) -> FeatureViews:
    geometry = ViewGeometry.from_volume(volume, intrinsics)
    poses = poses.to("cpu", torch.float64)
    rays, tangents = geometry.rays(poses), geometry.twist_tangents(poses, pivot.to("cpu", torch.float64))
    pixels = homogeneous_pixels(intrinsics.height, intrinsics.width, torch.float64, torch.device("cpu"))
    mm_per_depth = torch.linalg.vector_norm(pixels @ geometry.camera_from_pixel.T, dim=-1)
    parts = (rays.source + 1, rays.direction_from_pixel, tangents.source, tangents.direction_from_pixel, mm_per_depth)
    return FeatureViews(*(np.ascontiguousarray(part.numpy()) for part in parts))
