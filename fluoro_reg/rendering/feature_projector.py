"""`project_features` on a CPU: compiled, and as differentiable as training needs, no more.

The loss of a gradient's direction needs the derivative of the projection to the pose, and how that derivative depends on the
volume; it never needs the second derivative to the pose. So image and derivatives are computed at once, as numbers that are
linear in the volume, and the pose enters as if the image were linear in it. The way of autograd through gathered samples
(`project_features`, the oracle here and what a GPU runs) takes two to three times the processor time
(`benchmarks/feature_projector.py`).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, se3
from fluoro_reg.rendering._feature_kernels import FeatureViews, project_rows, transpose_rows
from fluoro_reg.rendering._threads import share_out
from fluoro_reg.rendering.rays import ViewGeometry
from fluoro_reg.rendering.renderer import homogeneous_pixels
from fluoro_reg.rendering.spatial_transformer import project_features

_PARTS = 8  # of the rows of a batch, each with a volume of its own to add to


def project_features_linearised(
    features: Float[Tensor, "channels slices rows columns"],
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    samples: int,
    pivot: Float[Tensor, "3"],
) -> Float[Tensor, "batch channels height width"]:
    """As `project_features`, but where it is compiled (float32, on the CPU) the image's derivative to the pose is constant to
    the pose; to the features all derivatives are there. `pivot` (patient mm) is where the pose's twists are taken.
    """
    if features.device.type != "cpu" or features.dtype != torch.float32:
        return project_features(features, volume, camera_from_patient, intrinsics, samples)
    here = RigidTransform(camera_from_patient.rotation.detach(), camera_from_patient.translation.detach())
    views = _views(volume, here, intrinsics, pivot)
    both = _Projection.apply(features, views, samples)
    if not (camera_from_patient.rotation.requires_grad or camera_from_patient.translation.requires_grad):
        return both[:, 0]
    away = se3.local(here, camera_from_patient, pivot.to(here.translation))  # zero, but for its derivatives
    return both[:, 0] + torch.einsum("bnchw,bn->bchw", both[:, 1:], away.to(both))


class _Projection(torch.autograd.Function):
    """Features to the image and its six derivatives to a twist: [view, 7, channel, row, column]."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, views: FeatureViews, samples: int) -> Tensor:
        padded = torch.nn.functional.pad(features.detach(), (1,) * 6).movedim(0, -1).contiguous()
        height, width = views.mm_by_depth.shape
        out = np.empty((len(views.source), height, width, 7, len(features)), np.float32)
        voxels = padded.numpy()
        share_out(lambda a, b: project_rows(voxels, views, samples, a, b, out), len(out) * height)
        ctx.views, ctx.samples, ctx.shape = views, samples, padded.shape
        return torch.from_numpy(out).permute(0, 3, 4, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Transposed.apply(gradients[0], ctx.views, ctx.samples, ctx.shape), None, None


class _Transposed(torch.autograd.Function):
    """The transpose of `_Projection`, whose own transpose is `_Projection` again."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, views: FeatureViews, samples: int, shape: tuple[int, ...]) -> Tensor:
        given = np.ascontiguousarray(gradient.detach().permute(0, 3, 4, 1, 2).numpy())
        rows, parts = len(given) * given.shape[1], np.zeros((_PARTS, *shape), np.float32)

        def add(first: int, last: int) -> None:
            for part in range(first, last):
                transpose_rows(given, views, samples, rows * part // _PARTS, rows * (part + 1) // _PARTS, parts[part])

        share_out(add, _PARTS)
        ctx.views, ctx.samples = views, samples
        total = parts.sum(0)  # in one order, whoever came first: the same bits every time
        return torch.from_numpy(total)[1:-1, 1:-1, 1:-1].movedim(-1, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Projection.apply(gradients[0], ctx.views, ctx.samples), None, None, None


def _views(volume: CTVolume, poses: RigidTransform, intrinsics: CameraIntrinsics, pivot: Tensor) -> FeatureViews:
    geometry = ViewGeometry.of(volume, intrinsics)
    poses = poses.to("cpu", torch.float64)
    rays, tangents = geometry.rays(poses), geometry.twist_tangents(poses, pivot.to("cpu", torch.float64))
    pixels = homogeneous_pixels(intrinsics.height, intrinsics.width, torch.float64, torch.device("cpu"))
    mm_by_depth = torch.linalg.vector_norm(pixels @ geometry.camera_from_pixel.T, dim=-1)
    parts = (rays.source + 1, rays.direction_from_pixel, tangents.source, tangents.direction_from_pixel, mm_by_depth)
    return FeatureViews(*(np.ascontiguousarray(part.numpy()) for part in parts))
