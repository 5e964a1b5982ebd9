"""Training pairs for a learned similarity: X-rays of the whole CT at true poses, and starting poses.

A batch consists of groups, each sampled around its own view, which is drawn from the range. True and starting poses are sampled
independently around that view, with standard deviations of 9.45 degrees for the Euler angles x, y, z and 22.4 mm for the
translations along each axis (0.0525 pi, and 0.15 of half a cube of 298.5 mm). The difference between a starting pose and the
true pose then has standard deviations that are larger by the square root of two. Every starting pose of a group is paired with
every X-ray of the group. Rotations are about the pivot, around the camera's axes. As published, all groups have the view in the
middle of the range (`around: middle`), which leaves out most views of a wide range. Source: the released code of C. Gao et al.,
MICCAI 2020.

Views from the other side of the patient are mirrored, as they are for a regressor and when the weights are used
(`fluoro_reg.networks.opposite_view`): the network sees one side only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import option
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view_where
from fluoro_reg.networks.seen_views import range_with_spread
from fluoro_reg.training.gradient_direction import geodesic_gradient, geodesic_mm
from fluoro_reg.training.random_values import seeded_generator
from fluoro_reg.training.samples import SampleMaker, mirrored_where
from fluoro_reg.training.simulated_xrays import XraysForValidation, XrayThreads

_FIRST_START_BATCH = 2**30  # generators of starts have numbers from here on; torch's CPU generator uses 32 bits of a seed


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which view the true and the starting poses are around, and their standard deviations from it."""

    around: str = option(
        "range",
        "for each group another view of the range, or always the middle of the range, as published",
        choices=("range", "middle"),
    )
    rotation_deg: float = option(9.45, "standard deviation of each Euler angle", unit="deg", minimum=0, maximum=60)
    translation_mm: float = option(
        22.4, "standard deviation of each translation in the image plane", unit="mm", minimum=0, maximum=500
    )
    depth_mm: float = option(22.4, "standard deviation of the translation in depth", unit="mm", minimum=0, maximum=500)

    def seen(self, carm: CarmRange) -> CarmRange:
        """Return the range of the poses that are seen in a training for a range of views."""
        return range_with_spread(carm, self.around == "middle", self.rotation_deg, self.translation_mm, self.depth_mm)


@dataclass(frozen=True, slots=True)
class PosesAround:
    """A `PoseSource` of normally distributed poses around one view, or around one of a batch for each pose."""

    view: RigidTransform
    options: PairOptions

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        normal = torch.randn(count, 6, generator=generator, dtype=torch.float64)
        angles = torch.diag_embed(math.radians(self.options.rotation_deg) * normal[:, 3:])
        x, y, z = so3.exp(angles).unbind(1)
        rotation = x @ y @ z @ self.view.rotation
        spread = normal.new_tensor([self.options.translation_mm, self.options.translation_mm, self.options.depth_mm])
        pivot_in_camera = self.view.apply(aim_patient[None]).squeeze(-2) + spread * normal[:, :3]
        return RigidTransform(rotation, pivot_in_camera - rotation @ aim_patient)


@dataclass(frozen=True, slots=True)
class Directions:
    """What the gradients and values of all pairs are compared with, float32, on the device.

    Attributes:
        gradients: of the squared distance with respect to a twist [mm, rad] of the start.
        camera_from_patient: the rotations of the starts.
        distance_mm: between start and truth.
        between_mm: between the true poses of every two X-rays of a group.
    """

    gradients: Float[Tensor, "pairs 6"]
    camera_from_patient: Float[Tensor, "pairs 3 3"]
    distance_mm: Float[Tensor, "pairs"]
    between_mm: Float[Tensor, "image_pairs"]

    def split(self, count: int) -> "list[Directions]":
        """Return those of `Pairs.split`, whose pairs follow each other."""
        fields = (self.gradients, self.camera_from_patient, self.distance_mm, self.between_mm)
        return [Directions(*parts) for parts in zip(*(field.chunk(count) for field in fields), strict=True)]


@dataclass(frozen=True, slots=True)
class Pairs:
    """X-rays and starting poses in groups of the same size; every start of a group is paired with every X-ray of the group.

    Attributes:
        images: standardised images, on the device.
        truth: the true poses, float64, on the CPU.
        starts: the starting poses, float64, on the CPU.
        groups: the number of groups.
    """

    images: Float[Tensor, "images 1 height width"]
    truth: RigidTransform
    starts: RigidTransform
    groups: int = 1

    def split(self, count: int) -> "list[Pairs]":
        """Return batches of the same number of groups."""
        n_images, n_starts = len(self.images) // count, len(self.starts.translation) // count
        return [
            Pairs(
                self.images[n * n_images : (n + 1) * n_images],
                self.truth[n * n_images : (n + 1) * n_images],
                self.starts[n * n_starts : (n + 1) * n_starts],
                self.groups // count,
            )
            for n in range(count)
        ]

    def all_pairs(self, device: torch.device | str = "cpu") -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
        """Return the indices of the start and of the image of every pair."""
        group, start, image = torch.cartesian_prod(
            *(torch.arange(n, device=device) for n in (self.groups, *self._sizes))
        ).unbind(1)
        return group * self._sizes[0] + start, group * self._sizes[1] + image

    def image_pairs(self, device: torch.device | str = "cpu") -> tuple[Int[Tensor, "image_pairs"], Int[Tensor, "image_pairs"]]:
        """Return the indices of every two X-rays of a group."""
        first, second = torch.triu_indices(self._sizes[1], self._sizes[1], 1, device=device)
        offset = self._sizes[1] * torch.arange(self.groups, device=device)[:, None]
        return (first + offset).flatten(), (second + offset).flatten()

    @property
    def _sizes(self) -> tuple[int, int]:
        """Starts and X-rays of a group."""
        return len(self.starts.translation) // self.groups, len(self.images) // self.groups

    def directions(self, pivot: Float[Tensor, "3"], device: torch.device | str) -> Directions:
        """Return what all pairs are compared with."""
        (rows, columns), (first, second) = self.all_pairs(), self.image_pairs()
        starts, truth = self.starts[rows], self.truth[columns]
        parts = (
            geodesic_gradient(starts, truth, pivot),
            starts.rotation,
            geodesic_mm(starts, truth, pivot),
            geodesic_mm(self.truth[first], self.truth[second], pivot),
        )
        return Directions(*(part.to(device, torch.float32) for part in parts))


@dataclass(frozen=True, slots=True)
class PairMaker:
    """Maker of numbered batches of pairs of one CT; it uses the sample maker's X-rays, but not its source of poses."""

    samples: SampleMaker
    carm: CarmRange
    options: PairOptions

    def batch(self, n_views: int, n_starts: int, seed: int, number: int, groups: int = 1) -> Pairs:
        """Make batch `number` of a seed, with degraded projections; `n_views` X-rays and `n_starts` starts in each group.

        Raises:
            InputError: hardly any of the views shows bone.
        """
        view, opposite, starts = self._views_and_starts(n_starts, seed, number, groups)
        around = PosesAround(_repeated(view, n_views), self.options)
        views = self.samples.views(groups * n_views, seed, number, around)
        return self._pairs(views.images, views.camera_from_patient, opposite, starts)

    def validation_pairs(
        self, count: int, seed: int, number: int, xrays: XraysForValidation, threads: XrayThreads
    ) -> "Callable[[], Pairs]":
        """Start to make batch `number`, with the X-rays of `xrays`, and one start and one X-ray in each group.

        The result waits for the X-rays, may raise their `InputError`, and returns the pairs whose X-rays were made.
        """
        view, opposite, starts = self._views_and_starts(1, seed, number, count)
        poses = self.samples.projections(count, seed, number, PosesAround(view, self.options)).camera_from_patient
        started = xrays.start(poses, seeded_generator(seed, number), threads)

        def wait() -> Pairs:
            made, images = started.wait()
            return self._pairs(images.to(self.samples.device), poses[made], opposite[made], starts[made])

        return wait

    def _views_and_starts(
        self, n_starts: int, seed: int, number: int, groups: int
    ) -> tuple[RigidTransform, Bool[Tensor, "groups"], RigidTransform]:
        """Return the view of each group, whether it is an opposite view, and its starts, which are mirrored if it is."""
        reference, generator = self.samples.reference, seeded_generator(seed, _FIRST_START_BATCH + number)
        pivot = reference.pivot
        if self.options.around == "middle":
            view = RigidTransform.stack([self.carm.central_view(pivot)] * groups)
        else:
            view = self.carm.sample(pivot, groups, generator)
        opposite = is_opposite_view(view, reference.camera_from_patient)
        mirrored = opposite_view_where(opposite, view, pivot)
        starts = PosesAround(_repeated(mirrored, n_starts), self.options).sample(pivot, groups * n_starts, generator)
        return view, opposite, starts

    def _pairs(
        self,
        images: Float[Tensor, "images 1 height width"],
        poses: RigidTransform,
        opposite: Bool[Tensor, "groups"],
        starts: RigidTransform,
    ) -> Pairs:
        chosen = opposite.repeat_interleave(len(images) // len(opposite))
        truth = opposite_view_where(chosen, poses, self.samples.reference.pivot)
        return Pairs(mirrored_where(chosen, images), truth, starts, len(opposite))


def _repeated(poses: RigidTransform, times: int) -> RigidTransform:
    return RigidTransform(poses.rotation.repeat_interleave(times, 0), poses.translation.repeat_interleave(times, 0))
