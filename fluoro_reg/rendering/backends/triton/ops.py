"""The Triton kernels as torch operators: `fluoro_reg::march`, `fluoro_reg::project` and `fluoro_reg::gram`.

Registered with `torch.library`, they are known to autograd, `torch.compile` and CUDA graphs as functions of tensors with known
shapes.
"""

import os
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from fluoro_reg.rendering.backends.autograd import ray_gradients
from fluoro_reg.rendering.backends.triton.kernels import gram_kernel, march_kernel
from fluoro_reg.rendering.renderer import RayTangents

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

TILE = (8, 16)  # rows and columns of pixels of a program
_MIN_PARALLEL_RAYS = 1 << 17  # with fewer, a large GPU is partly idle, so the planes of a ray are split among lanes
_MAX_SPLIT = 4  # 512 threads per program leave 128 registers for each


class VolumeGrid(NamedTuple):
    """A volume in the form that the kernels take; see there for `layout`, `metric` and `scale`."""

    voxels: Tensor
    layout: Tensor
    metric: Tensor
    scale: float


@torch.library.custom_op("fluoro_reg::march", mutates_args=())
def march(
    voxels: Tensor, layout: Tensor, metric: Tensor, scale: float, source: Tensor, direction: Tensor, axes: Tensor,
    source_tangent: Tensor, direction_tangent: Tensor, height: int, width: int,
) -> Tensor:  # fmt: skip
    """Return integrals and their derivatives with respect to parameters: [batch, 1 + parameters, height, width], float32."""
    batch, parameters = source_tangent.shape[:2]
    out = torch.empty(batch, 1 + parameters, height, width, device=voxels.device, dtype=torch.float32)
    march_kernel[(batch * _tile_count(height, width),)](
        voxels, layout, metric, scale, source, direction, source_tangent, direction_tangent, axes, out, height, width,
        PARAMETERS=parameters, **_launch_options(batch * height * width),
    )  # fmt: skip
    return out


@march.register_fake
def _(voxels, layout, metric, scale, source, direction, axes, source_tangent, direction_tangent, height, width):  # type: ignore[no-untyped-def]
    return voxels.new_empty(len(source), 1 + source_tangent.shape[1], height, width, dtype=torch.float32)


@torch.library.custom_op("fluoro_reg::project", mutates_args=())
def project(
    voxels: Tensor, layout: Tensor, metric: Tensor, scale: float, source: Tensor, direction: Tensor, axes: Tensor, height: int,
    width: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return integrals, differentiable with respect to source and direction, and their moments.

    The moments are [dI/ds, dI/dd], [batch, 6, height, width].
    """
    unit = RayTangents.unit(len(source), voxels.device)
    moments = march(
        voxels, layout, metric, scale, source, direction, axes, unit.source.float().contiguous(),
        unit.direction_from_pixel.float().contiguous(), height, width,
    )  # fmt: skip
    return moments[:, 0].clone(), moments[:, 1:].clone()


@project.register_fake
def _(voxels, layout, metric, scale, source, direction, axes, height, width):  # type: ignore[no-untyped-def]
    image = voxels.new_empty(len(source), height, width, dtype=torch.float32)
    return image, voxels.new_empty(len(source), 6, height, width, dtype=torch.float32)


def _save_moments(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _project_backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_source, grad_direction = ray_gradients(gradient, ctx.saved_tensors[0])
    return None, None, None, None, grad_source, grad_direction, None, None, None


project.register_autograd(_project_backward, setup_context=_save_moments)


@torch.library.custom_op("fluoro_reg::gram", mutates_args=())
def gram(
    voxels: Tensor, layout: Tensor, metric: Tensor, scale: float, source: Tensor, direction: Tensor, axes: Tensor,
    source_tangent: Tensor, direction_tangent: Tensor, fixed: Tensor, weight: Tensor,
) -> Tensor:  # fmt: skip
    """Return weighted sums over the image of products of [1, fixed, integral, derivatives ...]: [batch, 16, 16], float64."""
    batch, height, width = weight.shape
    tiles = torch.empty(batch, _tile_count(height, width), 16, 16, device=voxels.device, dtype=torch.float32)
    gram_kernel[(tiles.shape[0] * tiles.shape[1],)](
        voxels, layout, metric, scale, source, direction, source_tangent, direction_tangent, axes, fixed, weight, tiles,
        height, width, PARAMETERS=source_tangent.shape[1], **_launch_options(batch * height * width),
    )  # fmt: skip
    return tiles.sum(1, dtype=torch.float64)


@gram.register_fake
def _(voxels, layout, metric, scale, source, direction, axes, source_tangent, direction_tangent, fixed, weight):  # type: ignore[no-untyped-def]
    return voxels.new_empty(len(source), 16, 16, dtype=torch.float64)


def _tile_count(height: int, width: int) -> int:
    return triton.cdiv(height, TILE[0]) * triton.cdiv(width, TILE[1])


def _launch_options(rays: int) -> dict[str, int]:
    """Return the constants and the number of warps to launch a kernel with."""
    split = 1
    while split < _MAX_SPLIT and rays * split < _MIN_PARALLEL_RAYS:
        split *= 2
    return {"SPLIT": split, "TILE_V": TILE[0], "TILE_U": TILE[1], "num_warps": TILE[0] * TILE[1] * split // 32}
