"""`NumbaRenderer`: the CPU backend. Compiled marches over a cropped, padded copy of the volume per march axis, made on demand.

What a CT holds of air at its sides is cropped away (mu = 0 there, so nothing is lost), which halves the work on a body and
more on bone. In a copy whose memory runs along the march axis the samples of a ray are neighbours, hence one for each axis in
use.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool3d

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.rendering.backends.autograd import differentiable_integrals, needs_gradient
from fluoro_reg.rendering.backends.fast_volume import air_box, refuse_volume_gradient
from fluoro_reg.rendering.backends.numba.kernels import (
    BLOCK_ACROSS,
    BLOCK_PLANES,
    PAD_AFTER,
    PAD_BEFORE,
    SKIPPED_SLOPE,
    RayViews,
    VolumeGrid,
    march_rows,
)
from fluoro_reg.rendering.rays import march_axes
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, RayTangents
from fluoro_reg.rendering.threads import distribute

_MOSTLY_FILLED = 0.75


class NumbaRenderer(AbstractRenderer):
    """Line integrals and their derivatives on the CPU: float32 volume and sums, fixed-point positions."""

    capabilities = Capabilities(("cpu",), jacobian_in_kernel=True, volume_gradient=False, double_backward=False)
    device = torch.device("cpu")

    def __init__(self, volume: CTVolume) -> None:
        refuse_volume_gradient(volume, "numba")
        self.volume = volume
        self._low, self._high = (np.array(corner) for corner in air_box(volume.attenuation))
        if np.prod(self._high - self._low + PAD_BEFORE + PAD_AFTER) >= 2**31:
            raise InputError("the CT has 2^31 voxels or more; downsample or crop it")
        self._grids: dict[int, VolumeGrid] = {}

    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        if needs_gradient(rays):
            return differentiable_integrals(self, rays)
        return self._march(rays, RayTangents.none(len(rays.source)))[:, 0]

    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        return self._march(rays, RayTangents.unit(len(rays.source))).movedim(1, -1)

    def jacobian(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch height width channels"]:
        return self._march(rays, tangents).movedim(1, -1)

    def _march(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch channels height width"]:
        """All rows of all views on all threads, the views of one march axis at a time."""
        refuse_volume_gradient(self.volume, "numba")
        source, direction = _array(rays.source), _array(rays.direction_from_pixel)
        by_source, by_direction = _array(tangents.source), _array(tangents.direction_from_pixel)
        out = np.empty((len(source), 1 + by_source.shape[1], rays.height, rays.width), np.float32)
        axes = np.array(march_axes(rays, self.volume.shape_ijk))
        for axis in set(axes.tolist()):
            grid, order = self._grid(axis), _order(axis)
            place = np.flatnonzero(axes == axis)
            views = RayViews(
                place,
                (source[place] - self._low + PAD_BEFORE).take(order, axis=-1),
                direction[place].take(order, axis=-2),
                by_source[place].take(order, axis=-1),
                by_direction[place].take(order, axis=-2),
            )
            distribute(lambda a, b, grid=grid, views=views: march_rows(grid, views, a, b, out), len(place) * rays.height)
        return torch.from_numpy(out)

    def _grid(self, axis: int) -> VolumeGrid:
        if axis not in self._grids:
            self._grids[axis] = self._make_grid(axis)
        return self._grids[axis]

    def _make_grid(self, axis: int) -> VolumeGrid:
        order = _order(axis)
        window = tuple(slice(low, high) for low, high in zip(self._low[::-1], self._high[::-1], strict=True))
        cropped = self.volume.attenuation.detach().to("cpu", torch.float32)[window]
        turned = cropped.permute(*(2 - i for i in order[::-1]))  # memory is [k, j, i]: axis i is dimension 2
        padded = torch.nn.functional.pad(turned, (PAD_BEFORE, PAD_AFTER) * 3).contiguous()
        linear = _array(self.volume.patient_from_voxel[:3, :3]).take(order, axis=1)
        c, a, m = padded.shape
        return VolumeGrid(padded.reshape(-1).numpy(), (m, a, c), linear.T @ linear, _filled_blocks(padded))


def _order(axis: int) -> list[int]:
    """The axes (m, a, c) of a march, in terms of (i, j, k)."""
    return [axis, (axis + 1) % 3, (axis + 2) % 3]


def _filled_blocks(padded: Float[Tensor, "c a m"]) -> np.ndarray:
    """Per block of a grid, whether a ray that passes it half-way, with no slope over `SKIPPED_SLOPE`, can meet anything there.

    Nothing at all where most blocks are filled: looking then costs more than it saves.
    """
    reach = math.ceil(SKIPPED_SLOPE * BLOCK_PLANES / 2) + 1  # the other voxel of a bilinear sample
    across = BLOCK_ACROSS + 2 * reach
    filled = max_pool3d((padded != 0).float()[None], (1, 1, BLOCK_PLANES), ceil_mode=True)
    filled = max_pool3d(filled, (1, across, 1), (1, BLOCK_ACROSS, 1), (0, reach, 0), ceil_mode=True)
    filled = max_pool3d(filled, (across, 1, 1), (BLOCK_ACROSS, 1, 1), (reach, 0, 0), ceil_mode=True)
    return filled[0].numpy() > 0 if float(filled.mean()) < _MOSTLY_FILLED else np.zeros((0, 0, 0), dtype=bool)


def _array(tensor: Tensor) -> np.ndarray:
    """Contiguous float64: one signature for the kernel, compiled once."""
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.float64).numpy())
