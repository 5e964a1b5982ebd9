"""The CPU backend, `NumbaRenderer`: compiled kernels on a cropped, padded copy of the volume for each march axis.

Air around the body is cropped, as it contributes nothing (mu = 0); this halves the work for a body and saves more for bone.
There is one copy for each march axis in use, made on demand, because samples of a ray are then neighbours in memory.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool3d

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.rendering.backends.autograd import differentiable_integrals, needs_gradient
from fluoro_reg.rendering.backends.fast_volume import occupied_bounds, reject_volume_gradient
from fluoro_reg.rendering.backends.numba.kernels import (
    BLOCK_SIZE_AC,
    BLOCK_SIZE_M,
    MAX_SKIP_SLOPE,
    PAD_AFTER,
    PAD_BEFORE,
    RayViews,
    VolumeGrid,
    march_rows,
)
from fluoro_reg.rendering.rays import march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, RayTangents
from fluoro_reg.rendering.threads import parallel_for

_MAX_OCCUPANCY = 0.75


class NumbaRenderer(AbstractRenderer):
    """Line integrals and their derivatives on the CPU, with float32 volume and sums and fixed-point positions."""

    capabilities = Capabilities(("cpu",), jacobian_in_kernel=True, volume_gradient=False, double_backward=False)
    device = torch.device("cpu")

    def __init__(self, volume: CTVolume) -> None:
        reject_volume_gradient(volume, "numba")
        self.volume = volume
        self._low, self._high = (np.array(corner) for corner in occupied_bounds(volume.attenuation))
        if np.prod(self._high - self._low + PAD_BEFORE + PAD_AFTER) >= 2**31:
            raise InputError("the CT has 2^31 voxels or more; downsample or crop it")
        self._grids: dict[int, VolumeGrid] = {}

    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        if needs_gradient(rays):
            return differentiable_integrals(self, rays)
        return self._march(rays, RayTangents.empty(len(rays.source)))[:, 0]

    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        return self._march(rays, RayTangents.unit(len(rays.source))).movedim(1, -1)

    def jacobian(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch height width channels"]:
        return self._march(rays, tangents).movedim(1, -1)

    def _march(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch channels height width"]:
        """Render all rows of all views on all threads, one march axis after the other."""
        batch, parameters = tangents.source.shape[:2]
        out = np.empty((batch, 1 + parameters, rays.height, rays.width), np.float32)
        for grid, views in self._views(rays, tangents):
            rows = len(views.view_index) * rays.height
            parallel_for(lambda a, b, grid=grid, views=views: march_rows(grid, views, a, b, out), rows)
        return torch.from_numpy(out)

    def view(self, rays: Rays, tangents: RayTangents) -> tuple[VolumeGrid, RayViews]:
        """Return the arguments of the kernels for the rays of one view."""
        ((grid, view),) = self._views(rays, tangents)
        return grid, view

    def _views(self, rays: Rays, tangents: RayTangents) -> Iterator[tuple[VolumeGrid, RayViews]]:
        """Return the views of each march axis, with the volume in its order."""
        reject_volume_gradient(self.volume, "numba")
        source, direction = _to_float64_array(rays.source), _to_float64_array(rays.direction_from_pixel)
        source_tangent, direction_tangent = _to_float64_array(tangents.source), _to_float64_array(tangents.direction_from_pixel)
        axes = np.array(march_axes(rays, self.volume.shape_ijk))
        for axis in set(axes.tolist()):
            order, index = _axis_order(axis), np.flatnonzero(axes == axis)
            yield (
                self._grid(axis),
                RayViews(
                    index,
                    (source[index] - self._low + PAD_BEFORE).take(order, axis=-1),
                    direction[index].take(order, axis=-2),
                    source_tangent[index].take(order, axis=-1),
                    direction_tangent[index].take(order, axis=-2),
                ),
            )

    def _grid(self, axis: int) -> VolumeGrid:
        if axis not in self._grids:
            self._grids[axis] = self._make_grid(axis)
        return self._grids[axis]

    def _make_grid(self, axis: int) -> VolumeGrid:
        order = _axis_order(axis)
        window = tuple(slice(low, high) for low, high in zip(self._low[::-1], self._high[::-1], strict=True))
        cropped = self.volume.attenuation.detach().to("cpu", torch.float32)[window]
        permuted = cropped.permute(*(2 - i for i in order[::-1]))  # memory is [k, j, i]: axis i is dimension 2
        padded = torch.nn.functional.pad(permuted, (PAD_BEFORE, PAD_AFTER) * 3).contiguous()
        linear = _to_float64_array(self.volume.patient_from_voxel[:3, :3]).take(order, axis=1)
        c, a, m = padded.shape
        return VolumeGrid(padded.reshape(-1).numpy(), (m, a, c), linear.T @ linear, _occupied_blocks(padded))


def _axis_order(axis: int) -> list[int]:
    """Return the axes (m, a, c) of a march as indices of (i, j, k)."""
    return [axis, (axis + 1) % 3, (axis + 2) % 3]


def _occupied_blocks(padded: Float[Tensor, "c a m"]) -> np.ndarray:
    """Mark the blocks where a ray can meet anything but air.

    The ray passes at the midpoint, with slopes of at most `MAX_SKIP_SLOPE`. Empty if most blocks are occupied, as checking then
    costs more than it saves.
    """
    margin = math.ceil(MAX_SKIP_SLOPE * BLOCK_SIZE_M / 2) + 1  # 1: the other voxel of a bilinear sample
    window = BLOCK_SIZE_AC + 2 * margin
    occupied = max_pool3d((padded != 0).float()[None], (1, 1, BLOCK_SIZE_M), ceil_mode=True)
    occupied = max_pool3d(occupied, (1, window, 1), (1, BLOCK_SIZE_AC, 1), (0, margin, 0), ceil_mode=True)
    occupied = max_pool3d(occupied, (window, 1, 1), (BLOCK_SIZE_AC, 1, 1), (margin, 0, 0), ceil_mode=True)
    return occupied[0].numpy() > 0 if float(occupied.mean()) < _MAX_OCCUPANCY else np.zeros((0, 0, 0), dtype=bool)


def _to_float64_array(tensor: Tensor) -> np.ndarray:
    """Return a contiguous float64 array, so that the kernel is compiled for one signature only."""
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.float64).numpy())
