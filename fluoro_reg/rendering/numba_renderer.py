"""`NumbaRenderer`: the CPU backend. Compiled marches over a cropped, padded copy of the volume per march axis, made on demand.

What a CT holds of air at its sides is cropped away (mu = 0 there, so nothing is lost), which halves the work on a body and
more on bone. A copy whose memory runs along the march axis makes the samples of a ray neighbours: 1.3 to 1.7 times faster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.rendering import _numba_kernels as kernels
from fluoro_reg.rendering._threads import share_out
from fluoro_reg.rendering.rays import march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, RayTangents


@dataclass(frozen=True, slots=True)
class _Grid:
    """The volume as the kernels want it for one march axis; `order` are the axes (m, a, c) in terms of (i, j, k)."""

    order: np.ndarray
    voxels: np.ndarray
    shape: tuple[int, int, int]
    metric: np.ndarray


class NumbaRenderer(AbstractRenderer):
    """Line integrals, moments and Jacobians on the CPU; float32 volume and sums, float64 geometry."""

    capabilities = Capabilities(devices=("cpu",), volume_gradient=False, double_backward=False)

    def __init__(self, volume: CTVolume) -> None:
        if volume.attenuation.requires_grad:
            raise InputError("the numba renderer has no gradient to the volume; detach it or use the torch renderer")
        self.volume = volume
        self._low, self._high = _support(volume.attenuation)
        if np.prod([high - low + 3 for low, high in zip(self._low, self._high, strict=True)]) >= 2**31:
            raise InputError("the CT has 2^31 voxels or more; downsample or crop it")
        self._grids: dict[int, _Grid] = {}

    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        image = np.empty((len(rays.source), rays.height, rays.width), np.float32)
        self._march(rays, lambda grid, common: lambda a, b: kernels.image_rows(*common, a, b, image))
        return torch.from_numpy(image)

    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        out = np.empty((len(rays.source), 7, rays.height, rays.width), np.float32)
        self._march(rays, lambda grid, common: lambda a, b: kernels.moment_rows(*common, a, b, grid.order, out))
        return torch.from_numpy(out).movedim(1, -1)

    def jacobian(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch height width 1+parameters"]:
        source, direction = _array(tangents.source), _array(tangents.direction_from_pixel)
        out = np.empty((len(rays.source), 1 + source.shape[1], rays.height, rays.width), np.float32)

        def kernel(grid: _Grid, common: tuple) -> Callable[[int, int], None]:
            ordered = source[..., grid.order], direction[..., grid.order, :]
            return lambda a, b: kernels.jacobian_rows(*common, a, b, *ordered, out)

        self._march(rays, kernel)
        return torch.from_numpy(out).movedim(1, -1)

    def _march(self, rays: Rays, kernel: Callable[[_Grid, tuple], Callable[[int, int], None]]) -> None:
        """Runs a kernel over all rows of all views, the views of one march axis at a time."""
        source, direction = _array(rays.source), _array(rays.direction_from_pixel)
        axes = np.array(march_axes(rays, self.volume.shape_ijk))
        for axis in np.unique(axes):
            grid = self._grid(int(axis))
            views = np.flatnonzero(axes == axis)
            shifted = (source - self._low + kernels.PAD_BEFORE)[:, grid.order]
            common = (grid.voxels, grid.shape, grid.metric, views, shifted, direction[:, grid.order])
            share_out(kernel(grid, common), len(views) * rays.height)

    def _grid(self, axis: int) -> _Grid:
        if axis not in self._grids:
            self._grids[axis] = self._make_grid(axis)
        return self._grids[axis]

    def _make_grid(self, axis: int) -> _Grid:
        order = np.array([axis, (axis + 1) % 3, (axis + 2) % 3])
        window = tuple(slice(low, high) for low, high in zip(self._low[::-1], self._high[::-1], strict=True))
        cropped = self.volume.attenuation.detach().to("cpu", torch.float32)[window]
        turned = cropped.permute(*(int(2 - i) for i in order[::-1]))  # memory is [k, j, i], so axis i is dimension 2
        padded = torch.nn.functional.pad(turned, (kernels.PAD_BEFORE, kernels.PAD_AFTER) * 3).contiguous().numpy()
        linear = self.volume.patient_from_voxel[:3, :3].numpy()[:, order]
        shape = (padded.shape[2], padded.shape[1], padded.shape[0])
        return _Grid(order, padded.reshape(-1), shape, linear.T @ linear)


def _support(attenuation: Tensor) -> tuple[Any, Any]:
    """The tight box of voxels that are not air, [low, high) along (i, j, k); of a volume of air, its first voxel."""
    low, high = np.zeros(3, int), np.ones(3, int)
    filled = attenuation.detach().cpu() != 0
    for axis, others in enumerate(((0, 1), (0, 2), (1, 2))):
        hit = filled.any(dim=others[1]).any(dim=others[0]).nonzero()
        if len(hit):
            low[axis], high[axis] = int(hit[0]), int(hit[-1]) + 1
    return low, high


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64).contiguous().numpy()
