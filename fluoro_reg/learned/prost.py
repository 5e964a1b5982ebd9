"""ProST: the distance between two embeddings, one of the X-ray and one of the projected learned volume.

Training makes its gradient point towards the true pose (`fluoro_reg.training.gradient_direction`). The moving image shows bone
only and the X-ray shows everything, so each has an encoder of its own.
Source: C. Gao et al., "A fully differentiable framework for 2D/3D registration and the projective spatial transformers", IEEE
TMI 43(1), 2024, and its predecessor, MICCAI 2020.
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
from fluoro_reg.learned.encoders import NORM_GROUPS, ImageEncoder
from fluoro_reg.learned.metrics import METRICS, AbstractMetric
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector, attach_pose_gradient
from fluoro_reg.learned.volume_network import VolumeNetwork
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import project_features_with_jacobian

_BONE_UNIT_MM = 20.0  # this thickness of solid bone is one unit of a projection


@dataclass(frozen=True, slots=True)
class ProSTOptions:
    """Settings of the networks and of the projection."""

    image_px: int = option(48, "width and height of the images that are compared", unit="px", minimum=16, maximum=512)
    voxel_mm: float = option(8.0, "approximate voxel size of the learned volume", unit="mm", minimum=0.5, maximum=50)
    samples: int = option(24, "samples along a ray", minimum=4, maximum=1024)
    volume_channels: int = option(3, "channels of the learned volume", minimum=1, maximum=32)
    encoder_channels: tuple[int, ...] = option(
        (16, 32, 64), "channels of the encoders' stages, each of which halves the image", minimum=4, maximum=512
    )
    embedding_size: int = option(32, "length of the embeddings that are compared", minimum=6, maximum=1024)

    def __post_init__(self) -> None:
        if any(channels % NORM_GROUPS for channels in self.encoder_channels):
            raise InputError(f"the encoders' channels must be multiples of {NORM_GROUPS}, got {list(self.encoder_channels)}")
        if self.image_px < 2 ** len(self.encoder_channels):
            stages = len(self.encoder_channels)
            raise InputError(f"{stages} halvings leave nothing of an image of {self.image_px} px; give fewer encoder_channels")


class ProST(AbstractLearnedSimilarity):
    """The mean squared difference of the embeddings."""

    Options = ProSTOptions
    bone: Tensor

    def __init__(self, options: ProSTOptions, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__(options, reference, volume)
        self.voxels = coarse_bone(volume, options.voxel_mm)
        self.register_buffer("bone", self.voxels.attenuation / (BONE_PER_MM * _BONE_UNIT_MM), persistent=False)
        self.volume_network = VolumeNetwork(options.volume_channels)
        self.moving_encoder = ImageEncoder(options.volume_channels, options.encoder_channels, options.embedding_size)
        self.fixed_encoder = ImageEncoder(1, options.encoder_channels, options.embedding_size)

    @property
    def metric(self) -> AbstractMetric:
        return METRICS["euclidean"]

    def make_projector(self) -> Projector:
        return partial(self._project, self.volume_network(self.bone))

    def embed_moving(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch embedding"]:
        return self.moving_encoder(image)

    def embed_fixed(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch embedding"]:
        return self.fixed_encoder(images)

    def _project(self, learned_volume: Float[Tensor, "channels slices rows columns"], poses: RigidTransform) -> Projection:
        camera, pivot = self.reference.intrinsics, self.reference.pivot
        projection = project_features_with_jacobian(learned_volume, self.voxels, poses, camera, self.options.samples, pivot)
        return attach_pose_gradient(projection, poses, pivot)
