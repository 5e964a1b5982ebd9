"""ProST: the distance between two embeddings, one of the X-ray, one of the projected learned volume.

Its value is taught by its gradient alone: that shall point where the true pose lies (`fluoro_reg.training.gradient_direction`).
The moving side is bone only, the X-ray shows everything; telling them apart is what the two encoders are for.
Source: C. Gao et al., "A fully differentiable framework for 2D/3D registration and the projective spatial transformers", IEEE
TMI 43(1), 2024, and its forerunner, MICCAI 2020. Places of the image that the X-ray does not show have no say here.
"""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.attenuation import BONE_PER_MM
from fluoro_reg.ct.bone import coarse_bone
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned.encoders import GROUPS, ImageEncoder
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projector, mean_shown, shown
from fluoro_reg.learned.volume_network import VolumeNetwork
from fluoro_reg.regressor.heads import ReferenceView
from fluoro_reg.rendering import project_features_linearised

_BONE_MM = 20.0  # so much solid bone is one unit of a projection


@dataclass(frozen=True, slots=True)
class ProSTOptions:
    """The networks and the projection."""

    image_px: int = option(48, "width and height of the images that are compared", unit="px", minimum=16, maximum=512)
    voxel_mm: float = option(8.0, "about the size of the learned volume's voxels", unit="mm", minimum=0.5, maximum=50)
    samples: int = option(24, "samples along a ray", minimum=4, maximum=1024)
    volume_channels: int = option(3, "channels of the learned volume", minimum=1, maximum=32)
    encoder_channels: tuple[int, ...] = option((16, 32, 32), "channels, halving by halving", minimum=4, maximum=512)
    embedding: int = option(32, "channels that are compared", minimum=1, maximum=512)

    def __post_init__(self) -> None:
        if any(channels % GROUPS for channels in self.encoder_channels):
            raise InputError(f"the encoders' channels must be multiples of {GROUPS}, got {list(self.encoder_channels)}")
        if self.image_px < 2 ** len(self.encoder_channels):
            raise InputError(f"{len(self.encoder_channels)} halvings leave nothing of an image of {self.image_px} px")


class ProST(AbstractLearnedSimilarity):
    """The mean squared difference of the embeddings."""

    Options = ProSTOptions
    bone: Tensor

    def __init__(self, options: ProSTOptions, reference: ReferenceView, volume: CTVolume) -> None:
        super().__init__(options, reference, volume)
        self.voxels = coarse_bone(volume, options.voxel_mm)
        self.register_buffer("bone", self.voxels.attenuation / (BONE_PER_MM * _BONE_MM), persistent=False)
        self.volume_network = VolumeNetwork(options.volume_channels)
        self.moving_encoder = ImageEncoder(options.volume_channels, options.encoder_channels, options.embedding)
        self.fixed_encoder = ImageEncoder(1, options.encoder_channels, options.embedding)

    def projector(self) -> Projector:
        learned_volume = self.volume_network(self.bone)
        return partial(self._projected, learned_volume)

    def problem(
        self, projector: Projector, images: Float[Tensor, "batch 1 height width"], mask: Bool[Tensor, "batch height width"]
    ) -> "ProSTProblem":
        grid = self.fixed_encoder(images)
        return ProSTProblem(self, projector, grid, shown(mask, grid))

    def _projected(
        self, learned_volume: Float[Tensor, "channels slices rows columns"], poses: RigidTransform
    ) -> Float[Tensor, "batch channels height width"]:
        camera, pivot = self.reference.intrinsics, self.reference.pivot
        return project_features_linearised(learned_volume, self.voxels, poses, camera, self.options.samples, pivot)


@dataclass(frozen=True, slots=True)
class ProSTProblem:
    """The X-rays' embeddings on a grid, and how much of each place of the grid they show."""

    network: ProST
    projector: Projector
    grid: Float[Tensor, "batch embedding i j"]
    weight: Float[Tensor, "batch i j"]

    def at(self, poses: RigidTransform) -> Float[Tensor, "batch"]:
        difference = self.network.moving_encoder(self.projector(poses)) - self.grid
        return mean_shown(difference.square().mean(1), self.weight) / self.network.scale

    def values(self, starts: RigidTransform, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        return self.at(retract(starts, twists, self.network.reference.pivot)).to(twists)

    def table(self, poses: RigidTransform) -> Float[Tensor, "poses images"]:
        moving = self.network.moving_encoder(self.projector(poses))
        difference = (moving[:, None] - self.grid).square().mean(2)
        count = difference.shape[:2]
        weight = self.weight.expand(*count, -1, -1).flatten(0, 1)
        return mean_shown(difference.flatten(0, 1), weight).unflatten(0, count)
