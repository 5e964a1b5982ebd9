"""Training samples: poses from the range of views, the CT's X-rays there, and their degradations.

Soft tissue and what bone adds to it are rendered separately, so that giving every image its own bone contrast costs only a sum.
Views that hardly show any bone are replaced by others: nothing can be learned from them, and no surgeon would keep them.

Poses are drawn on the CPU. Everything else of a batch is made on the device, in few large operations: a GPU waits for whoever
asks it for a value, and for every operation to be issued. So the images of several steps are made at once and split.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.bone import lacks_soft_tissue, split_soft_tissue_and_bone, tissue_beyond
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

MINIMUM_BONE_MM = 2.0  # a ray that crosses less bone does not count as showing bone
MINIMUM_BONE_FRACTION = 0.05
BONE_BACKGROUND = 0.9  # fraction of images with tissue that the CT lacks, where the CT is bone alone
BEYOND_MM = 150.0  # how far the body goes on where the CT is cut
_MAXIMUM_TRIES = 1000  # of each view; enough for a range of whose views one in fifty shows bone, and thousands of views
_HOPELESS_AFTER = 100  # tries in which no view at all has shown bone


@runtime_checkable
class PoseSource(Protocol):
    """A distribution of poses, such as a `CarmRange`."""

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        """Return `count` random poses `camera_from_patient`; float64, on the CPU."""


@dataclass(frozen=True, slots=True)
class Projections:
    """A batch of projections of the CT.

    Attributes:
        camera_from_patient: the poses, float64, on the CPU.
        integrals: the line integrals.
        bone_contrast: the factor of bone in the line integrals.
    """

    camera_from_patient: RigidTransform
    integrals: Float[Tensor, "batch height width"]
    bone_contrast: Float[Tensor, "batch"]

    def part(self, index: slice | Int[Tensor, "part"]) -> "Projections":
        """Return some of the batch, given by a slice or by indices on the CPU."""
        on_device = index if isinstance(index, slice) else index.to(self.integrals.device)
        return Projections(self.camera_from_patient[index], self.integrals[on_device], self.bone_contrast[on_device])


@dataclass(frozen=True, slots=True)
class TrainingViews:
    """A batch of X-rays: standardised images, and the projections before degradation at the true poses."""

    images: Float[Tensor, "batch 1 height width"]
    projections: Projections

    @property
    def camera_from_patient(self) -> RigidTransform:
        """The true poses, float64, on the CPU."""
        return self.projections.camera_from_patient


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch for a regressor, in which opposite views are mirrored.

    Attributes:
        inputs: standardised images, mirrored for opposite views.
        target: the poses to predict, float32, on the device: for opposite views that of the opposite view, for the others the
            true pose.
        opposite: which views are opposite views; on the CPU.
        projections: the projections before degradation at the true poses, not mirrored.
    """

    inputs: Float[Tensor, "batch 1 height width"]
    target: RigidTransform
    opposite: Bool[Tensor, "batch"]
    projections: Projections

    @property
    def camera_from_patient(self) -> RigidTransform:
        """The true poses, float64, on the CPU."""
        return self.projections.camera_from_patient

    def split(self, size: int) -> "list[Samples]":
        """Return batches of this size."""
        return [self._part(slice(first, first + size)) for first in range(0, len(self.inputs), size)]

    def _part(self, part: slice) -> "Samples":
        return Samples(self.inputs[part], self.target[part], self.opposite[part], self.projections.part(part))


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

    def batch(self, count: int, seed: int, number: int) -> Samples:
        """Make batch `number` of a seed.

        Raises:
            InputError: as `views`.
        """
        return self.samples_of(self.views(count, seed, number))

    def samples_of(self, views: TrainingViews) -> Samples:
        """Return X-rays as samples for a regressor."""
        poses = views.camera_from_patient
        opposite = is_opposite_view(poses, self.reference.camera_from_patient)
        target = opposite_view_where(opposite, poses, self.reference.pivot)
        return Samples(
            mirrored_where(opposite, views.images), target.to(self.device, torch.float32), opposite, views.projections
        )

    def views(self, count: int, seed: int, number: int, source: PoseSource | None = None) -> TrainingViews:
        """Make the X-rays of batch `number`, not mirrored: degraded projections at poses from `source`, or the maker's own.

        Raises:
            InputError: hardly any of the views shows bone.
        """
        random = RandomValues.seeded(count, seed, number, self.device)
        generator = seeded_generator(seed, number)
        projections = self._projections(source, random, generator)
        goes_on = torch.rand(count, generator=generator) < self.degradations.beyond
        integrals = self._continued(projections.integrals, projections.camera_from_patient, goes_on)
        return TrainingViews(standardise(*degrade(integrals, self.degradations, random)), projections)

    def projections(self, count: int, seed: int, number: int, source: PoseSource | None = None) -> Projections:
        """Make the projections of batch `number` alone, at the poses of `views`.

        Raises:
            InputError: hardly any of the views shows bone.
        """
        random = RandomValues.seeded(count, seed, number, self.device)
        return self._projections(source, random, seeded_generator(seed, number))

    @torch.no_grad()
    def _projections(self, source: PoseSource | None, random: RandomValues, generator: torch.Generator) -> Projections:
        poses, bone = self._poses_that_show_bone(source or self.source, random.batch, generator)
        contrast = random.log_uniform(*self.degradations.bone_contrast)
        integrals = project(self._soft, poses, self.intrinsics) + contrast[:, None, None] * bone
        return Projections(poses, integrals, contrast)

    def _continued(
        self, integrals: Float[Tensor, "batch height width"], poses: RigidTransform, chosen: Bool[Tensor, "batch"]
    ) -> Float[Tensor, "batch height width"]:
        """Add to the `chosen` images the soft tissue beyond the sides at which the CT is cut."""
        index = chosen.nonzero()[:, 0]
        if self._beyond is None or not len(index):
            return integrals
        return integrals.index_add(0, index.to(integrals.device), project(self._beyond, poses[index], self.intrinsics))

    def project(
        self, camera_from_patient: RigidTransform, bone_contrast: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch height width"]:
        """Return line integrals without degradations, differentiable with respect to the poses."""
        soft, bone = (project(part, camera_from_patient, self.intrinsics) for part in (self._soft, self._bone))
        return soft + bone_contrast[:, None, None] * bone

    def _poses_that_show_bone(
        self, source: PoseSource, count: int, generator: torch.Generator
    ) -> tuple[RigidTransform, Float[Tensor, "batch height width"]]:
        """Return poses that show bone, and its line integrals; pose n is one of those that the source gives in place n."""
        poses = source.sample(self.reference.pivot, count, generator)
        bone = project(self._bone, poses, self.intrinsics)
        hidden = _indices_without_bone(bone)
        for tried in range(_MAXIMUM_TRIES):
            if not len(hidden):
                return poses, bone
            if tried == _HOPELESS_AFTER and len(hidden) == count:
                break
            others = source.sample(self.reference.pivot, count, generator)[hidden]
            images = project(self._bone, others, self.intrinsics)
            poses.rotation[hidden], poses.translation[hidden] = others.rotation, others.translation
            bone[hidden.to(bone.device)] = images
            hidden = hidden[_indices_without_bone(images)]
        raise InputError(
            "hardly any view of the C-arm's range shows bone; change the range, or give a CT of the region of interest"
        )


def mirrored_where(
    chosen: Bool[Tensor, "batch"], images: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Return the mirror image where `chosen` is true."""
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)


def _indices_without_bone(bone_integrals: Float[Tensor, "batch height width"]) -> Int[Tensor, "hidden"]:
    return (~shows_enough_bone(bone_integrals)).cpu().nonzero()[:, 0]


def shows_enough_bone(bone_integrals: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch"]:
    """Return whether enough rays cross enough bone, from line integrals of what bone adds to soft tissue."""
    threshold = MINIMUM_BONE_MM * float(attenuation_from_hu(np.array([BONE_SPLIT_HU], np.float32))[0]) / 2
    return (bone_integrals > threshold).float().mean((1, 2)) >= MINIMUM_BONE_FRACTION
