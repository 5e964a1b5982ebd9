"""Training samples: poses from the range of views, the CT's X-rays there, and their degradations.

Soft tissue and what bone adds to it are rendered separately, so that giving every image its own bone contrast costs only a sum.
Views that hardly show any bone are replaced by others: nothing can be learned from them, and no surgeon would keep them.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.bone import lacks_soft_tissue, split_soft_tissue_and_bone, tissue_beyond
from fluoro_reg.ct.hu_thresholds import BONE_SPLIT_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.networks.image_input import standardise
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view, opposite_view_where
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.training.degradations import DegradationOptions, degrade
from fluoro_reg.training.random_values import RandomValues, seeded_generator
from fluoro_reg.training.simulated_xrays import XraysForValidation

MINIMUM_BONE_MM = 2.0  # a ray that crosses less bone does not count as showing bone
MINIMUM_BONE_FRACTION = 0.05
BONE_BACKGROUND = 0.9  # fraction of images with tissue that the CT lacks, where the CT is bone alone
BEYOND_MM = 150.0  # how far the body goes on where the CT is cut
_MAXIMUM_TRIES = 20


@runtime_checkable
class PoseSource(Protocol):
    """A distribution of poses, such as a `CarmRange`."""

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        """Return `count` random poses `camera_from_patient`; float64, on the CPU."""


@dataclass(frozen=True, slots=True)
class TrainingViews:
    """A batch of X-rays.

    Attributes:
        images: standardised images.
        camera_from_patient: the true poses, float64.
        integrals: the line integrals before degradation.
        bone_contrast: the factor of bone in the line integrals.
    """

    images: Float[Tensor, "batch 1 height width"]
    camera_from_patient: RigidTransform
    integrals: Float[Tensor, "batch height width"]
    bone_contrast: Float[Tensor, "batch"]

    def from_opposite_side(self, pivot: Float[Tensor, "3"]) -> "TrainingViews":
        """Return the mirror images, at the poses of the opposite views, which they show except for perspective."""
        poses = opposite_view(self.camera_from_patient, pivot)
        return TrainingViews(self.images.flip(-1), poses, self.integrals.flip(-1), self.bone_contrast)


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch for a regressor, in which opposite views are mirrored.

    Attributes:
        inputs: standardised images, mirrored for opposite views.
        target: the poses to predict, float64: the pose of the opposite view for opposite views, the true pose for the others.
        camera_from_patient: the true poses, float64.
        opposite: which views are opposite views.
        integrals: the line integrals before degradation, not mirrored.
        bone_contrast: the factor of bone in the line integrals.
    """

    inputs: Float[Tensor, "batch 1 height width"]
    target: RigidTransform
    camera_from_patient: RigidTransform
    opposite: Bool[Tensor, "batch"]
    integrals: Float[Tensor, "batch height width"]
    bone_contrast: Float[Tensor, "batch"]


@dataclass(slots=True)
class SampleMaker:
    """Maker of numbered batches of one CT; the same number, seed and device give the same batch."""

    volume: CTVolume
    source: PoseSource
    reference: ReferenceView
    degradations: DegradationOptions
    device: str = "cpu"
    _soft: AbstractRenderer = field(init=False)
    _bone: AbstractRenderer = field(init=False)
    _beyond: AbstractRenderer | None = field(init=False)

    def __post_init__(self) -> None:
        soft, bone = split_soft_tissue_and_bone(self.volume)
        if lacks_soft_tissue(self.volume):
            self.degradations = replace(self.degradations, background=max(self.degradations.background, BONE_BACKGROUND))
        factors = self.reference.downsampling_factors(self.volume.voxel_size_mm)
        self._soft, self._bone = (make_renderer(part.downsampled(factors), self.device) for part in (soft, bone))
        beyond = tissue_beyond(soft.downsampled(factors), BEYOND_MM)
        self._beyond = None if beyond is None else make_renderer(beyond, self.device)

    @property
    def intrinsics(self) -> CameraIntrinsics:
        return self.reference.intrinsics

    def batch(self, count: int, seed: int, number: int, xrays: XraysForValidation | None = None) -> Samples:
        """Make batch `number` of a seed.

        Raises:
            InputError: as `views`.
        """
        views = self.views(count, seed, number, xrays=xrays)
        poses = views.camera_from_patient
        opposite = is_opposite_view(poses, self.reference.camera_from_patient)
        inputs = torch.where(opposite.to(views.images.device)[:, None, None, None], views.images.flip(-1), views.images)
        target = opposite_view_where(opposite, poses, self.reference.pivot)
        return Samples(inputs, target, poses, opposite, views.integrals, views.bone_contrast)

    def views(
        self,
        count: int,
        seed: int,
        number: int,
        source: PoseSource | None = None,
        xrays: XraysForValidation | None = None,
    ) -> TrainingViews:
        """Make the X-rays of batch `number`, not mirrored, at poses from `source` or the maker's own source.

        The images are degraded projections, or those of `xrays`.

        Raises:
            InputError: hardly any of the views shows bone.
        """
        poses, soft, bone = self._sample_poses(source or self.source, count, seeded_generator(seed, number))
        random = RandomValues.seeded(count, seed, number, soft.device)
        contrast = random.log_uniform(*self.degradations.bone_contrast)
        integrals = soft + contrast[:, None, None] * bone
        if xrays is not None:
            images = xrays.inputs(poses, seeded_generator(seed, number)).to(soft.device)
            return TrainingViews(images, poses, integrals, contrast)
        goes_on = random.bernoulli(self.degradations.beyond)
        pixels, mask = degrade(self._continued(integrals, poses, goes_on), self.degradations, random)
        return TrainingViews(standardise(pixels, mask), poses, integrals, contrast)

    def _continued(
        self, integrals: Float[Tensor, "batch height width"], poses: RigidTransform, chosen: Bool[Tensor, "batch"]
    ) -> Float[Tensor, "batch height width"]:
        """Add to the `chosen` images the soft tissue beyond the sides at which the CT is cut."""
        if self._beyond is None or not chosen.any():
            return integrals
        continued = integrals.clone()
        continued[chosen] += project(self._beyond, poses[chosen.cpu()], self.intrinsics)
        return continued

    def project(
        self, camera_from_patient: RigidTransform, bone_contrast: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch height width"]:
        """Return line integrals without degradations, differentiable with respect to the poses."""
        soft, bone = (project(part, camera_from_patient, self.intrinsics) for part in (self._soft, self._bone))
        return soft + bone_contrast[:, None, None] * bone

    @torch.no_grad()
    def _sample_poses(
        self, source: PoseSource, count: int, generator: torch.Generator
    ) -> tuple[RigidTransform, Tensor, Tensor]:
        """Return poses that show bone, with the line integrals of soft tissue and bone."""
        kept: list[tuple[Tensor, ...]] = []
        for _ in range(_MAXIMUM_TRIES):
            poses = source.sample(self.reference.pivot, count, generator)
            bone = project(self._bone, poses, self.intrinsics)
            visible = shows_enough_bone(bone)
            if visible.any():
                poses = poses[visible.cpu()]
                soft = project(self._soft, poses, self.intrinsics)
                kept.append((poses.rotation, poses.translation, soft, bone[visible]))
            if sum(len(part[0]) for part in kept) >= count:
                rotation, translation, soft, bone = (torch.cat(parts)[:count] for parts in zip(*kept, strict=True))
                return RigidTransform(rotation, translation), soft, bone
        raise InputError(
            "hardly any view of the C-arm's range shows bone; change the range, or give a CT of the region of interest"
        )


def shows_enough_bone(bone_integrals: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch"]:
    """Return whether enough rays cross enough bone, from line integrals of what bone adds to soft tissue."""
    threshold = MINIMUM_BONE_MM * float(attenuation_from_hu(np.array([BONE_SPLIT_HU], np.float32))[0]) / 2
    return (bone_integrals > threshold).float().mean((1, 2)) >= MINIMUM_BONE_FRACTION
