"""The spherical similarity: one encoder for the X-ray and the projected CT, whose embeddings are compared on spheres.

Unlike ProST's, the moving image is a plain projection of the whole CT by the renderer of the registration. Both images go
through the same weights, and the renderer computes the derivatives of the projection at little cost. X-rays are standardised by
their own quantiles, projections by those of the reference view: a quantile depends on a single pixel, and its derivative would
be noise. Source: M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, as far as it is published.
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
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector, attach_pose_gradient
from fluoro_reg.learned.spherical_encoder import SphericalEncoder
from fluoro_reg.networks.image_input import QUANTILE_RANGE_IN_SD, QUANTILES
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project_with_jacobian

_MINIMUM_PX = 16
_MINIMUM_SPREAD = 0.02  # as a fraction of the maximum line integral


@dataclass(frozen=True, slots=True)
class SphericalOptions:
    """Settings of the encoder and of the metric."""

    image_px: int = option(48, "width and height of the images that are compared", unit="px", minimum=_MINIMUM_PX, maximum=512)
    metric: str = option("angle", "how the embeddings of two images are compared", choices=tuple(METRICS))
    embedding_size: int = option(32, "length of an embedding", minimum=8, maximum=1024)
    width: int = option(64, "channels inside the encoder", minimum=8, maximum=1024)
    heads: int = option(4, "attention heads", minimum=1, maximum=64)
    layers: int = option(2, "attention blocks", minimum=0, maximum=24)

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise InputError(f"the width must be a multiple of 4 and of the {self.heads} heads, got {self.width}")
        if self.metric == "so4" and self.embedding_size % 8:
            raise InputError(f"with so4 the embedding_size must be a multiple of 8, got {self.embedding_size}")


class Spherical(AbstractLearnedSimilarity):
    """The squared distance of the embeddings under one of `METRICS`."""

    Options = SphericalOptions

    def __init__(self, options: SphericalOptions, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__(options, reference, volume)
        self.encoder = SphericalEncoder(options.embedding_size, options.width, options.heads, options.layers)
        self._coarse_volume = volume.downsampled(reference.downsampling_factors(volume.voxel_size_mm))
        self._renderers: dict[str, AbstractRenderer] = {}
        image, _ = self.make_projector()(RigidTransform.stack([reference.camera_from_patient]))
        low, self._median, high = torch.quantile(image.double(), torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
        self._spread = (high - low) / QUANTILE_RANGE_IN_SD
        if not self._spread > _MINIMUM_SPREAD * float(image.max()):
            raise InputError("the CT is hardly visible in the reference view; give another range, or a CT of that region")

    @property
    def metric(self) -> AbstractMetric:
        return METRICS[self.options.metric]

    def make_projector(self) -> Projector:
        device = self.scale.device.type
        if device not in self._renderers:
            self._renderers[device] = make_renderer(self._coarse_volume, device)
        return DRRProjector(self._renderers[device], self.reference.intrinsics, self.reference.pivot)

    def embed_moving(self, image: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch embedding"]:
        return self.encoder((image - self._median) / self._spread)

    def embed_fixed(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch embedding"]:
        return self.encoder(images)


@dataclass(frozen=True, slots=True)
class DRRProjector:
    """A `Projector` that returns line integrals of a CT."""

    renderer: AbstractRenderer
    intrinsics: CameraIntrinsics
    pivot: Float[Tensor, "3"]

    def __call__(self, poses: RigidTransform) -> Projection:
        here = RigidTransform(poses.rotation.detach(), poses.translation.detach())
        integrals, by_twist = project_with_jacobian(self.renderer, here, self.intrinsics, self.pivot)
        return attach_pose_gradient((integrals[:, None], by_twist[:, None]), poses, self.pivot)
