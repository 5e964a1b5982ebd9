"""The ray-moment contract between the mathematics of a pose and the kernels that march rays.

A ray is `x(t) = s + t d` in voxel units, `s` the source and `d = M (u, v, 1)` for pixel (u, v); `t` counts mm of depth. A
backend returns at most seven numbers a ray: the line integral I (dimensionless), dI/ds and dI/dd. They are a sufficient
statistic for the derivative to any parametrisation of pose, source position and intrinsics (`fluoro_reg.rendering.projection`),
so a backend knows no pose, no camera and no optimiser. Where somebody wants a few directional derivatives and not the moments,
the tangents of s and M go in and the backend contracts them while the moments of a ray are still in registers.

Images are stored channel first, because what follows are filters over images: `moments` and Jacobians are channel-last views.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume


@dataclass(frozen=True, slots=True)
class Rays:
    """A batch of views: all rays of a height x width image, per view one source and one direction matrix (voxel units)."""

    source: Float[Tensor, "batch 3"]
    direction_from_pixel: Float[Tensor, "batch 3 3"]
    height: int
    width: int

    def patches(self, corners: Int[Tensor, "batch n 2"], height: int, width: int) -> "Rays":
        """The rays of n patches of each view, whose first pixels are at `corners` (u, v), as a batch of batch * n views.

        Patch p of view b is image b * n + p. A patch of the image is the image of the patch: the quadrature knows no crop.
        """
        shift = torch.eye(3, dtype=self.direction_from_pixel.dtype).repeat(*corners.shape[:2], 1, 1)
        shift[..., :2, 2] = corners.to(shift)
        direction = (self.direction_from_pixel[:, None] @ shift).flatten(0, 1)
        return Rays(self.source.repeat_interleave(corners.shape[1], dim=0), direction, height, width)


@dataclass(frozen=True, slots=True)
class RayTangents:
    """The derivatives of a `Rays`' source and direction matrix to some parameters (of a pose, a camera, ...)."""

    source: Float[Tensor, "batch parameters 3"]
    direction_from_pixel: Float[Tensor, "batch parameters 3 3"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, asked at construction: a method that needs more refuses it with a sentence."""

    devices: tuple[str, ...]
    volume_gradient: bool
    double_backward: bool


class AbstractRenderer(ABC):
    """Line integrals of one CT volume; final subclasses are the entries of `RENDERERS`."""

    capabilities: Capabilities
    volume: CTVolume

    @abstractmethod
    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        """The line integrals alone."""

    @abstractmethod
    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        """[I, dI/ds (3), dI/dd (3)] in voxel units."""

    def jacobian(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch height width channels"]:
        """[I, dI/dparameter ...]; a backend overrides it when it can contract the moments before they reach memory."""
        moments = self.moments(rays)
        pixels = homogeneous_pixels(rays.height, rays.width, moments.dtype, moments.device)
        source = tangents.source.to(moments)
        direction = tangents.direction_from_pixel.to(moments)
        columns = torch.einsum("bhwi,bpi->bphw", moments[..., 1:4], source)
        columns = columns + torch.einsum("bhwi,bpij,hwj->bphw", moments[..., 4:7], direction, pixels)
        return torch.cat([moments[..., 0][:, None], columns], dim=1).movedim(1, -1)

    def warm_up(self) -> None:
        """Does now what the first image would wait for (compilation, copies of the volume), by one ray along the j axis."""
        middle = [(n - 1) / 2 for n in self.volume.shape_ijk]
        source = torch.tensor([[middle[0], -2.0 * self.volume.shape_ijk[1], middle[2]]], dtype=torch.float64)
        along_j = torch.zeros(1, 3, 3, dtype=torch.float64)
        along_j[0, 1, 2] = 1.0
        self.jacobian(Rays(source, along_j, height=1, width=1), RayTangents(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3, 3)))


def homogeneous_pixels(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "height width 3"]:
    """(u, v, 1) of every pixel centre."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=dtype, device=device), torch.arange(width, dtype=dtype, device=device), indexing="ij"
    )
    return torch.stack([u, v, torch.ones_like(u)], dim=-1)
