"""ProST: the distance between two encodings, one of the X-ray, one of the projected learned volume.

It is taught by its gradient, which shall point where the true pose lies (`fluoro_reg.training.gradient_direction`). The moving
side is bone only, the X-ray shows everything; telling them apart is what the two encoders are for.
Source: C. Gao et al., "A fully differentiable framework for 2D/3D registration and the projective spatial transformers", IEEE
TMI 43(1), 2024, and its forerunner, MICCAI 2020.
"""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.attenuation import BONE_PER_MM
from fluoro_reg.ct.bone import coarse_bone
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned.encoders import GROUPS, ImageEncoder
from fluoro_reg.learned.metrics import METRICS, AbstractMetric
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector, followed
from fluoro_reg.learned.volume_network import VolumeNetwork
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import project_features_with_jacobian

_BONE_MM = 20.0  # so much solid bone is one unit of a projection


@dataclass(frozen=True, slots=True)
class ProSTOptions:
    """The networks and the projection."""

    image_px: int = option(48, "width and height of the images that are compared", unit="px", minimum=16, maximum=512)
    voxel_mm: float = option(8.0, "about the size of the learned volume's voxels", unit="mm", minimum=0.5, maximum=50)
    samples: int = option(24, "samples along a ray", minimum=4, maximum=1024)
    volume_channels: int = option(3, "channels of the learned volume", minimum=1, maximum=32)
    encoder_channels: tuple[int, ...] = option((16, 32, 64), "channels, halving by halving", minimum=4, maximum=512)
    numbers: int = option(32, "numbers of an image that are compared", minimum=6, maximum=1024)

    def __post_init__(self) -> None:
        if any(channels % GROUPS for channels in self.encoder_channels):
            raise InputError(f"the encoders' channels must be multiples of {GROUPS}, got {list(self.encoder_channels)}")
        if self.image_px < 2 ** len(self.encoder_channels):
            raise InputError(f"{len(self.encoder_channels)} halvings leave nothing of an image of {self.image_px} px")


class ProST(AbstractLearnedSimilarity):
    """The mean squared difference of the encodings."""

    Options = ProSTOptions
    bone: Tensor

    def __init__(self, options: ProSTOptions, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__(options, reference, volume)
        self.voxels = coarse_bone(volume, options.voxel_mm)
        self.register_buffer("bone", self.voxels.attenuation / (BONE_PER_MM * _BONE_MM), persistent=False)
        self.volume_network = VolumeNetwork(options.volume_channels)
        self.moving_encoder = ImageEncoder(options.volume_channels, options.encoder_channels, options.numbers)
        self.fixed_encoder = ImageEncoder(1, options.encoder_channels, options.numbers)

    @property
    def metric(self) -> AbstractMetric:
        return METRICS["euclidean"]

    def projector(self) -> Projector:
        return partial(self._projected, self.volume_network(self.bone))

    def moving(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch numbers"]:
        return self.moving_encoder(image)

    def fixed(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch numbers"]:
        return self.fixed_encoder(images)

    def _projected(self, learned_volume: Float[Tensor, "channels slices rows columns"], poses: RigidTransform) -> Projection:
        camera, pivot = self.reference.intrinsics, self.reference.pivot
        projection = project_features_with_jacobian(learned_volume, self.voxels, poses, camera, self.options.samples, pivot)
        return followed(projection, poses, pivot)
