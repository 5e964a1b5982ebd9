"""The spherical similarity as it is trained and used: one encoder for X-ray and projected CT, compared on spheres.

Unlike ProST's, the moving side is a plain projection of the whole CT, by the renderer that registrations use: both images go
through the same weights, and Levenberg-Marquardt gets the derivatives of the projection for nothing.
Source: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, as far as it is known.
"""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projector
from fluoro_reg.learned.spherical import METRICS
from fluoro_reg.learned.spherical_encoder import SphericalEncoder
from fluoro_reg.learned.spherical_problem import Drr, SphericalProblem
from fluoro_reg.regressor.heads import ReferenceView
from fluoro_reg.rendering import AbstractRenderer, make_renderer

_LEAST_PX = 16


@dataclass(frozen=True, slots=True)
class SphericalOptions:
    """The encoder, and what its features are to each other."""

    image_px: int = option(64, "width and height of the images that are compared", unit="px", minimum=_LEAST_PX, maximum=512)
    metric: str = option("angle", "how cells of features are compared", choices=tuple(METRICS))
    embedding: int = option(32, "numbers of a cell's feature", minimum=4, maximum=512)
    width: int = option(64, "channels inside the encoder", minimum=8, maximum=1024)
    heads: int = option(4, "heads of attention", minimum=1, maximum=64)
    layers: int = option(2, "blocks of attention", minimum=0, maximum=24)

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise InputError(f"the width must be a multiple of 4 and of the {self.heads} heads, got {self.width}")
        if self.metric == "so4" and self.embedding % 8:
            raise InputError(f"so4 takes the embedding's numbers by eights; {self.embedding} is no multiple of 8")


class Spherical(AbstractLearnedSimilarity):
    """The mean squared angle between the cells of both images, by how much the X-ray shows of each."""

    Options = SphericalOptions

    def __init__(self, options: SphericalOptions, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__(options, reference, volume)
        self.encoder = SphericalEncoder(options.embedding, options.width, options.heads, options.layers)
        pixel_mm = reference.depth_mm / reference.intrinsics.fx
        i, j, k = (max(1, round(pixel_mm / size)) for size in volume.voxel_size_mm)
        self._coarse = volume.downsampled((i, j, k))
        self._renderers: dict[str, AbstractRenderer] = {}

    def projector(self) -> Projector:
        device = self.scale.device.type
        if device not in self._renderers:
            self._renderers[device] = make_renderer(self._coarse, device)
        return Drr(self._renderers[device], self.reference.intrinsics, self.reference.pivot)

    def problem(
        self, projector: Projector, images: Float[Tensor, "batch 1 height width"], mask: Bool[Tensor, "batch height width"]
    ) -> SphericalProblem:
        metric = METRICS[self.options.metric]
        problem = SphericalProblem.of(projector, self.reference.pivot, self.encoder, metric, images, mask)
        return replace(problem, scale=float(self.scale))
