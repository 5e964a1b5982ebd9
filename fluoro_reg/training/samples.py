"""Training samples: poses of the range, the CT's X-rays there, and what a detector made of them.

Soft tissue and what bone adds to it are rendered apart, so that every image has a contrast of its own at the price of a sum.
TrainingViews that show next to no bone are drawn again: nothing could be learned from them, and no surgeon would keep them.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.bone import split_soft_tissue_and_bone
from fluoro_reg.ct.hu_thresholds import BONE_SPLIT_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.networks.image_input import standardise
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view_where
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.training.degradations import DegradationOptions, degrade
from fluoro_reg.training.random_values import RandomValues, seeded_generator

MINIMUM_BONE_MM = 2.0  # a ray that crosses less shows none
MINIMUM_BONE_FRACTION = 0.05
_MAXIMUM_TRIES = 20


@runtime_checkable
class ViewSource(Protocol):
    """Where poses come from: a `CarmRange`, or any other spread."""

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        """Random `camera_from_patient`; float64, on the CPU."""


@dataclass(frozen=True, slots=True)
class TrainingViews:
    """A batch as it is seen: standardised images, where they may be used, the true poses (float64), the clean line integrals
    and the factor of bone in them."""

    images: Float[Tensor, "batch 1 height width"]
    camera_from_patient: RigidTransform
    integrals: Float[Tensor, "batch height width"]
    bone_contrast: Float[Tensor, "batch"]


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch: the network's input, the true poses (float64), the clean line integrals and the factor of bone in them.

    Opposite views (`behind`) are mirrored in `inputs`, and their `target` is the pose of their opposite; the target of the
    others is the true pose.
    """

    inputs: Float[Tensor, "batch 1 height width"]
    target: RigidTransform
    camera_from_patient: RigidTransform
    behind: Bool[Tensor, "batch"]
    integrals: Float[Tensor, "batch height width"]
    bone_contrast: Float[Tensor, "batch"]


@dataclass(slots=True)
class SampleMaker:
    """Batches of one CT by number: the same number, seed and device give the same batch."""

    volume: CTVolume
    source: ViewSource
    reference: ReferenceView
    degradations: DegradationOptions
    device: str = "cpu"
    _soft: AbstractRenderer = field(init=False)
    _bone: AbstractRenderer = field(init=False)

    def __post_init__(self) -> None:
        soft, bone = split_soft_tissue_and_bone(self.volume)
        pixel_mm = self.reference.depth_mm / self.intrinsics.fx
        i, j, k = (max(1, round(pixel_mm / size)) for size in self.volume.voxel_size_mm)
        self._soft, self._bone = (make_renderer(part.downsampled((i, j, k)), self.device) for part in (soft, bone))

    @property
    def intrinsics(self) -> CameraIntrinsics:
        return self.reference.intrinsics

    def batch(self, count: int, seed: int, number: int) -> Samples:
        """Batch `number` of a seed.

        Raises:
            InputError: as `views`.
        """
        views = self.views(count, seed, number)
        poses = views.camera_from_patient
        behind = is_opposite_view(poses, self.reference.camera_from_patient)
        inputs = torch.where(behind.to(views.images.device)[:, None, None, None], views.images.flip(-1), views.images)
        target = opposite_view_where(behind, poses, self.reference.pivot)
        return Samples(inputs, target, poses, behind, views.integrals, views.bone_contrast)

    def views(self, count: int, seed: int, number: int, source: ViewSource | None = None) -> TrainingViews:
        """The same, none of them mirrored; from another source, where one is given.

        Raises:
            InputError: hardly any view of the range shows bone.
        """
        poses, soft, bone = self._seen(source or self.source, count, seeded_generator(seed, number))
        random = RandomValues.seeded(count, seed, number, soft.device)
        contrast = random.log_uniform(*self.degradations.bone_contrast)
        integrals = soft + contrast[:, None, None] * bone
        pixels, mask = degrade(integrals, self.degradations, random)
        return TrainingViews(standardise(pixels, mask), poses, integrals, contrast)

    def project(
        self, camera_from_patient: RigidTransform, bone_contrast: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch height width"]:
        """Clean line integrals at other poses, differentiable to them."""
        soft, bone = (project(part, camera_from_patient, self.intrinsics) for part in (self._soft, self._bone))
        return soft + bone_contrast[:, None, None] * bone

    @torch.no_grad()
    def _seen(self, source: ViewSource, count: int, generator: torch.Generator) -> tuple[RigidTransform, Tensor, Tensor]:
        kept: list[tuple[Tensor, ...]] = []
        for _ in range(_MAXIMUM_TRIES):
            poses = source.sample(self.reference.pivot, count, generator)
            bone = project(self._bone, poses, self.intrinsics)
            shown = enough_bone(bone)
            if shown.any():
                poses = poses[shown.cpu()]
                soft = project(self._soft, poses, self.intrinsics)
                kept.append((poses.rotation, poses.translation, soft, bone[shown]))
            if sum(len(part[0]) for part in kept) >= count:
                rotation, translation, soft, bone = (torch.cat(parts)[:count] for parts in zip(*kept, strict=True))
                return RigidTransform(rotation, translation), soft, bone
        raise InputError(
            "hardly any view of the C-arm's range shows bone; mend the range, or give a CT of the region of interest"
        )


def enough_bone(bone_integrals: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch"]:
    """Whether enough rays cross enough bone; the integrals hold what bone adds to soft tissue."""
    threshold = MINIMUM_BONE_MM * float(attenuation_from_hu(np.array([BONE_SPLIT_HU], np.float32))[0]) / 2
    return (bone_integrals > threshold).float().mean((1, 2)) >= MINIMUM_BONE_FRACTION
