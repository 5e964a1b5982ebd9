"""The ray-moment contract between the mathematics of a pose and the kernels that march rays.

A ray is `x(t) = s + t d` in voxel units, `s` the source and `d = M (u, v, 1)` for pixel (u, v); `t` counts mm of depth. A
backend returns at most seven numbers a ray: the line integral I (dimensionless), dI/ds and dI/dd. They are a sufficient statistic for
the derivative to any parametrisation of pose, source position and intrinsics (`fluoro_reg.rendering.projection`), so a
backend knows no pose, no camera and no optimiser.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume


@dataclass(frozen=True, slots=True)
class Rays:
    """A batch of views: all rays of a height x width image, per view one source and one direction matrix (voxel units)."""

    source: Float[Tensor, "batch 3"]
    direction_from_pixel: Float[Tensor, "batch 3 3"]
    height: int
    width: int


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
