"""The spherical similarity: one encoder for X-ray and projected CT, compared on spheres.

Unlike ProST's, the moving side is a plain projection of the whole CT, by the renderer that registrations use: both images go
through the same weights, and the derivatives of the projection come for nothing. X-rays are standardised by quantiles of their
own, projections by those of the reference view: a quantile moves with a single pixel, and its derivative would be noise.
Source: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, as far as it is known.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.learned.metrics import METRICS, AbstractMetric
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector, followed
from fluoro_reg.learned.spherical_encoder import SphericalEncoder
from fluoro_reg.networks.image_input import QUANTILES, SPREAD_IN_SD
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project_with_jacobian

_MINIMUM_PX = 16
_MINIMUM_SPREAD = 0.02  # of the greatest line integral


@dataclass(frozen=True, slots=True)
class SphericalOptions:
    """The encoder, and what its numbers are to each other."""

    image_px: int = option(48, "width and height of the images that are compared", unit="px", minimum=_MINIMUM_PX, maximum=512)
    metric: str = option("angle", "how the numbers of two images are compared", choices=tuple(METRICS))
    numbers: int = option(32, "numbers of an image", minimum=8, maximum=1024)
    width: int = option(64, "channels inside the encoder", minimum=8, maximum=1024)
    heads: int = option(4, "heads of attention", minimum=1, maximum=64)
    layers: int = option(2, "blocks of attention", minimum=0, maximum=24)

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise InputError(f"the width must be a multiple of 4 and of the {self.heads} heads, got {self.width}")
        if self.metric == "so4" and self.numbers % 8:
            raise InputError(f"so4 takes the numbers by eights; {self.numbers} is no multiple of 8")


class Spherical(AbstractLearnedSimilarity):
    """The squared angle between two images' points, or what else `METRICS` holds."""

    Options = SphericalOptions

    def __init__(self, options: SphericalOptions, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__(options, reference, volume)
        self.encoder = SphericalEncoder(options.numbers, options.width, options.heads, options.layers)
        pixel_mm = reference.depth_mm / reference.intrinsics.fx
        i, j, k = (max(1, round(pixel_mm / size)) for size in volume.voxel_size_mm)
        self._coarse = volume.downsampled((i, j, k))
        self._renderers: dict[str, AbstractRenderer] = {}
        image, _ = self.projector()(RigidTransform.stack([reference.camera_from_patient]))
        low, self._middle, high = torch.quantile(image.double(), torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
        self._spread = (high - low) / SPREAD_IN_SD
        if not self._spread > _MINIMUM_SPREAD * float(image.max()):
            raise InputError("the CT fills next to nothing of the view; give a CT of the region of interest, or another range")

    @property
    def metric(self) -> AbstractMetric:
        return METRICS[self.options.metric]

    def projector(self) -> Projector:
        device = self.scale.device.type
        if device not in self._renderers:
            self._renderers[device] = make_renderer(self._coarse, device)
        return Drr(self._renderers[device], self.reference.intrinsics, self.reference.pivot)

    def moving(self, image: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch numbers"]:
        return self.encoder((image - self._middle) / self._spread)

    def fixed(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch numbers"]:
        return self.encoder(images)


@dataclass(frozen=True, slots=True)
class Drr:
    """A `Projector`: line integrals of a CT."""

    renderer: AbstractRenderer
    intrinsics: CameraIntrinsics
    pivot: Float[Tensor, "3"]

    def __call__(self, poses: RigidTransform) -> Projection:
        here = RigidTransform(poses.rotation.detach(), poses.translation.detach())
        integrals, by_twist = project_with_jacobian(self.renderer, here, self.intrinsics, self.pivot)
        return followed((integrals[:, None], by_twist[:, None]), poses, self.pivot)
