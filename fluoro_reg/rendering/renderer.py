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
    """A batch of views: all rays of a height x width image, per view one source and one direction matrix (voxel units).

    `axes` are the march axes (0, 1, 2 for i, j, k), None where the renderer chooses: a refinement may want to keep them.
    """

    source: Float[Tensor, "batch 3"]
    direction_from_pixel: Float[Tensor, "batch 3 3"]
    height: int
    width: int
    axes: Int[Tensor, "batch"] | None = None

    def patches(self, corners: Int[Tensor, "batch n 2"], height: int, width: int) -> "Rays":
        """The rays of n patches of each view, whose first pixels are at `corners` (u, v), as a batch of batch * n views.

        Patch p of view b is image b * n + p. A patch of the image is the image of the patch, since the march axis is the same
        (it may differ for a source within the volume).
        """
        shift = torch.eye(3).to(self.direction_from_pixel).repeat(*corners.shape[:2], 1, 1)
        shift[..., :2, 2] = corners.to(shift)
        direction = (self.direction_from_pixel[:, None] @ shift).flatten(0, 1)
        n = corners.shape[1]
        axes = None if self.axes is None else self.axes.repeat_interleave(n)
        return Rays(self.source.repeat_interleave(n, dim=0), direction, height, width, axes)


@dataclass(frozen=True, slots=True)
class RayTangents:
    """The derivatives of a `Rays`' source and direction matrix to some parameters (of a pose, a camera, ...)."""

    source: Float[Tensor, "batch parameters 3"]
    direction_from_pixel: Float[Tensor, "batch parameters 3 3"]

    @classmethod
    def unit(cls, batch: int, device: torch.device | str = "cpu") -> "RayTangents":
        """The six that make a Jacobian of the moments dI/ds and dI/dd."""
        one = torch.eye(6, dtype=torch.float64, device=device).reshape(6, 2, 3)
        direction = torch.nn.functional.pad(one[:, 1, :, None], (2, 0))  # d = M (u, v, 1): the third column moves all alike
        return cls(one[:, 0].expand(batch, 6, 3), direction.expand(batch, 6, 3, 3))

    @classmethod
    def none(cls, batch: int, device: torch.device | str = "cpu") -> "RayTangents":
        """No parameter at all: the integrals alone."""
        zeros = torch.zeros(batch, 0, 3, 3, dtype=torch.float64, device=device)
        return cls(zeros[..., 0], zeros)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, asked at construction: a method that needs more refuses it with a sentence."""

    devices: tuple[str, ...]
    jacobian_in_kernel: bool  # one pass gives the image and all its derivatives; no moments reach memory
    volume_gradient: bool
    double_backward: bool


class AbstractRenderer(ABC):
    """Line integrals of one CT volume; final subclasses are the entries of `RENDERERS`."""

    capabilities: Capabilities
    volume: CTVolume
    device: torch.device  # where images come out

    @abstractmethod
    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        """The line integrals alone; differentiable to the rays, and to the volume where the capabilities say so."""

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

    def gram(
        self,
        rays: Rays,
        tangents: RayTangents,
        fixed: Float[Tensor, "#batch height width"],
        weight: Float[Tensor, "batch height width"],
    ) -> Float[Tensor, "batch products products"]:
        """The sums over the image of `weight x x^T`, x = [1, F, I, dI/dparameter ...], in float64.

        All that global NCC and least squares need of an image and its Jacobian; a backend may never store either.
        """
        rendered = self.jacobian(rays, tangents).movedim(-1, -2)  # rows of pixels are summed one by one, for their digits
        ones, fixed = torch.ones_like(weight), fixed.expand_as(weight)
        x = torch.cat([torch.stack([ones, fixed], dim=-2).to(rendered), rendered], dim=-2)
        return ((x * weight.to(x)[..., None, :]) @ x.mT).sum(1, dtype=torch.float64)

    def warm_up(self) -> None:
        """Does now what the first image would wait for (compilation, copies of the volume), by one ray along the j axis."""
        middle = [(n - 1) / 2 for n in self.volume.shape_ijk]
        source = torch.tensor([[middle[0], -2.0 * self.volume.shape_ijk[1], middle[2]]], dtype=torch.float64)
        along_j = torch.zeros(1, 3, 3, dtype=torch.float64)
        along_j[0, 1, 2] = 1.0
        rays = Rays(source, along_j, height=1, width=1)
        self.integrals(rays)
        self.jacobian(rays, RayTangents.unit(1))


def homogeneous_pixels(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "height width 3"]:
    """(u, v, 1) of every pixel centre."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=dtype, device=device), torch.arange(width, dtype=dtype, device=device), indexing="ij"
    )
    return torch.stack([u, v, torch.ones_like(u)], dim=-1)
