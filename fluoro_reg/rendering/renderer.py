"""The interface of the renderers: rays in, line integrals and their moments out.

A ray is `x(t) = s + t d` in voxel units, with the source `s` and `d = M (u, v, 1)` for pixel (u, v); `t` is depth in mm. A
backend returns at most seven values per ray: the line integral I (dimensionless), dI/ds and dI/dd. These suffice for the
derivative with respect to any parametrisation of pose, source position and intrinsics (`fluoro_reg.rendering.projection`), so a
backend depends on neither poses nor cameras nor optimisers. If only some directional derivatives are needed, the backend takes
the tangents of s and M and contracts them while the moments of a ray are still in registers.

Images are stored channel first, as the operations that follow are image filters; `moments` and Jacobians are channel-last
views.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume


@dataclass(frozen=True, slots=True)
class Rays:
    """A batch of views: the rays of all pixels of height x width images, in voxel units.

    Attributes:
        source: one per view.
        direction_from_pixel: maps homogeneous pixels (u, v, 1) to directions, one per view.
        height: of the image, pixels.
        width: of the image, pixels.
        axes: the march axes (0, 1, 2 for i, j, k). None lets the renderer choose; a refinement may want to keep them fixed.
    """

    source: Float[Tensor, "batch 3"]
    direction_from_pixel: Float[Tensor, "batch 3 3"]
    height: int
    width: int
    axes: Int[Tensor, "batch"] | None = None

    def patches(self, corners: Int[Tensor, "batch n 2"], height: int, width: int) -> "Rays":
        """Return the rays of n patches of each view as a batch of batch * n views; patch p of view b is image b * n + p.

        A patch of the image equals the image of the patch, since the march axis is the same. It may differ for a source within
        the volume.

        Args:
            corners: the first pixel (u, v) of each patch.
            height: of a patch, pixels.
            width: of a patch, pixels.
        """
        shift = torch.eye(3).to(self.direction_from_pixel).repeat(*corners.shape[:2], 1, 1)
        shift[..., :2, 2] = corners.to(shift)
        direction = (self.direction_from_pixel[:, None] @ shift).flatten(0, 1)
        n = corners.shape[1]
        axes = None if self.axes is None else self.axes.repeat_interleave(n)
        return Rays(self.source.repeat_interleave(n, dim=0), direction, height, width, axes)


@dataclass(frozen=True, slots=True)
class RayTangents:
    """The derivatives of source and direction matrix of `Rays` with respect to parameters, such as those of a pose."""

    source: Float[Tensor, "batch parameters 3"]
    direction_from_pixel: Float[Tensor, "batch parameters 3 3"]

    @classmethod
    def unit(cls, batch: int, device: torch.device | str = "cpu") -> "RayTangents":
        """Return the six tangents whose Jacobian is [dI/ds, dI/dd]."""
        unit = torch.eye(6, dtype=torch.float64, device=device).reshape(6, 2, 3)
        direction = torch.nn.functional.pad(
            unit[:, 1, :, None], (2, 0)
        )  # the third column of M moves all d = M (u, v, 1) alike
        return cls(unit[:, 0].expand(batch, 6, 3), direction.expand(batch, 6, 3, 3))

    @classmethod
    def empty(cls, batch: int, device: torch.device | str = "cpu") -> "RayTangents":
        """Return tangents of no parameter, for the integrals alone."""
        zeros = torch.zeros(batch, 0, 3, 3, dtype=torch.float64, device=device)
        return cls(zeros[..., 0], zeros)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features of a backend, known before it is constructed; a backend raises an error for anything else."""

    devices: tuple[str, ...]
    jacobian_in_kernel: bool  # one pass gives the image and all derivatives; no moments reach memory
    volume_gradient: bool
    double_backward: bool


class AbstractRenderer(ABC):
    """Line integrals of one CT volume. Final subclasses are the entries of `RENDERERS`."""

    capabilities: Capabilities
    volume: CTVolume
    device: torch.device  # of the images

    @abstractmethod
    def integrals(self, rays: Rays) -> Float[Tensor, "batch height width"]:
        """Return the line integrals, differentiable with respect to the rays.

        They are also differentiable with respect to the volume if the capabilities include that.
        """

    @abstractmethod
    def moments(self, rays: Rays) -> Float[Tensor, "batch height width 7"]:
        """Return [I, dI/ds (3), dI/dd (3)] in voxel units."""

    def jacobian(self, rays: Rays, tangents: RayTangents) -> Float[Tensor, "batch height width channels"]:
        """Return [I, dI/dparameter ...]; backends override it if they can contract the moments before these reach memory."""
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
        """Return the sums over the image of `weight x x^T` with x = [1, F, I, dI/dparameter ...], float64.

        Global NCC and least squares need nothing else of an image and its Jacobian, and a backend may never store either.
        """
        rendered = self.jacobian(rays, tangents).movedim(-1, -2)  # summing each row of pixels first loses fewer digits
        ones, fixed = torch.ones_like(weight), fixed.expand_as(weight)
        x = torch.cat([torch.stack([ones, fixed], dim=-2).to(rendered), rendered], dim=-2)
        return ((x * weight.to(x)[..., None, :]) @ x.mT).sum(1, dtype=torch.float64)

    def warm_up(self) -> None:
        """Compile the kernels and copy the volume now instead of at the first image, by rendering one ray along the j axis."""
        middle = [(n - 1) / 2 for n in self.volume.shape_ijk]
        source = torch.tensor([[middle[0], -2.0 * self.volume.shape_ijk[1], middle[2]]], dtype=torch.float64)
        along_j = torch.zeros(1, 3, 3, dtype=torch.float64)
        along_j[0, 1, 2] = 1.0
        rays = Rays(source, along_j, height=1, width=1)
        self.integrals(rays)
        self.jacobian(rays, RayTangents.unit(1))


def homogeneous_pixels(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "height width 3"]:
    """Return (u, v, 1) of every pixel centre."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=dtype, device=device), torch.arange(width, dtype=dtype, device=device), indexing="ij"
    )
    return torch.stack([u, v, torch.ones_like(u)], dim=-1)
