"""The Triton kernels as operators of torch: `fluoro_reg::march`, `fluoro_reg::project` and `fluoro_reg::gram`.

`torch.library` tells autograd, `torch.compile` and CUDA graphs what they are: functions of tensors alone, with known shapes.
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

TILE = (8, 16)  # rows and columns of pixels that a program marches together
_RAYS_FOR_A_GPU = 1 << 17  # fewer leave a large GPU idle, so the planes of a ray are shared among lanes
_MAXIMUM_SHARED = 4  # 512 threads a program leave 128 registers each


class VolumeGrid(NamedTuple):
    """A volume as the kernels have it: voxels, `layout`, `metric`, and the attenuation of a voxel's 1."""

    voxels: Tensor
    layout: Tensor
    metric: Tensor
    unit: float


@torch.library.custom_op("fluoro_reg::march", mutates_args=())
def march(
    voxels: Tensor, layout: Tensor, metric: Tensor, unit: float, source: Tensor, direction: Tensor, axes: Tensor,
    by_source: Tensor, by_direction: Tensor, height: int, width: int,
) -> Tensor:  # fmt: skip
    """Integrals and their derivatives to parameters: [batch, 1 + parameters, height, width], float32."""
    batch, parameters = by_source.shape[:2]
    out = torch.empty(batch, 1 + parameters, height, width, device=voxels.device, dtype=torch.float32)
    march_kernel[(batch * _tiles(height, width),)](
        voxels, layout, metric, unit, source, direction, by_source, by_direction, axes, out, height, width,
        PARAMETERS=parameters, **shape_of_a_program(batch * height * width),
    )  # fmt: skip
    return out


@march.register_fake
def _(voxels, layout, metric, unit, source, direction, axes, by_source, by_direction, height, width):  # type: ignore[no-untyped-def]
    return voxels.new_empty(len(source), 1 + by_source.shape[1], height, width, dtype=torch.float32)


@torch.library.custom_op("fluoro_reg::project", mutates_args=())
def project(
    voxels: Tensor, layout: Tensor, metric: Tensor, unit: float, source: Tensor, direction: Tensor, axes: Tensor, height: int,
    width: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Integrals, differentiable to source and direction, and their moments [dI/ds, dI/dd], [batch, 6, height, width]."""
    one = RayTangents.unit(len(source), voxels.device)
    moments = march(
        voxels, layout, metric, unit, source, direction, axes, one.source.float().contiguous(),
        one.direction_from_pixel.float().contiguous(), height, width,
    )  # fmt: skip
    return moments[:, 0].clone(), moments[:, 1:].clone()


@project.register_fake
def _(voxels, layout, metric, unit, source, direction, axes, height, width):  # type: ignore[no-untyped-def]
    image = voxels.new_empty(len(source), height, width, dtype=torch.float32)
    return image, voxels.new_empty(len(source), 6, height, width, dtype=torch.float32)


def _keep_moments(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _project_backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    by_source, by_direction = ray_gradients(gradient, ctx.saved_tensors[0])
    return None, None, None, None, by_source, by_direction, None, None, None


project.register_autograd(_project_backward, setup_context=_keep_moments)


@torch.library.custom_op("fluoro_reg::gram", mutates_args=())
def gram(
    voxels: Tensor, layout: Tensor, metric: Tensor, unit: float, source: Tensor, direction: Tensor, axes: Tensor,
    by_source: Tensor, by_direction: Tensor, fixed: Tensor, weight: Tensor,
) -> Tensor:  # fmt: skip
    """Sums over the image of products of [1, fixed, integral, derivatives ...], weighted: [batch, 16, 16], float64."""
    batch, height, width = weight.shape
    tiles = torch.empty(batch, _tiles(height, width), 16, 16, device=voxels.device, dtype=torch.float32)
    gram_kernel[(tiles.shape[0] * tiles.shape[1],)](
        voxels, layout, metric, unit, source, direction, by_source, by_direction, axes, fixed, weight, tiles, height, width,
        PARAMETERS=by_source.shape[1], **shape_of_a_program(batch * height * width),
    )  # fmt: skip
    return tiles.sum(1, dtype=torch.float64)


@gram.register_fake
def _(voxels, layout, metric, unit, source, direction, axes, by_source, by_direction, fixed, weight):  # type: ignore[no-untyped-def]
    return voxels.new_empty(len(source), 16, 16, dtype=torch.float64)


def _tiles(height: int, width: int) -> int:
    return triton.cdiv(height, TILE[0]) * triton.cdiv(width, TILE[1])


def shape_of_a_program(rays: int) -> dict[str, int]:
    split = 1
    while split < _MAXIMUM_SHARED and rays * split < _RAYS_FOR_A_GPU:
        split *= 2
    return {"SPLIT": split, "TILE_V": TILE[0], "TILE_U": TILE[1], "num_warps": TILE[0] * TILE[1] * split // 32}
