"""Training pairs for a learned similarity: X-rays of the whole CT at true poses, and starting poses.

Each batch is sampled around its own view, which is drawn from the range. True and starting poses are sampled independently
around that view, with standard deviations of 9.45 degrees for the Euler angles x, y, z and 22.4 mm for the translations along
each axis (0.0525 pi, and 0.15 of half a cube of 298.5 mm). The difference between a starting pose and the true pose then has
standard deviations that are larger by the square root of two. Every starting pose of a batch is paired with every X-ray of the
batch. Rotations are about the pivot, around the camera's axes. As published, all batches have the view in the middle of the
range (`around: middle`), which leaves out most views of a wide range. Source: the released code of C. Gao et al., MICCAI 2020.

Views from the other side of the patient are mirrored, as they are for a regressor and when the weights are used
(`fluoro_reg.networks.opposite_view`): the network sees one side only.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import option
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view
from fluoro_reg.networks.seen_views import range_with_spread
from fluoro_reg.training.random_values import seeded_generator
from fluoro_reg.training.samples import SampleMaker, TrainingViews
from fluoro_reg.training.simulated_xrays import XraysForValidation

_FIRST_START_BATCH = 2**30  # generators of starts have numbers from here on; torch's CPU generator uses 32 bits of a seed


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which view the true and the starting poses are around, and their standard deviations from it."""

    around: str = option(
        "range",
        "for each batch another view of the range, or always the middle of the range, as published",
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
    """A `PoseSource` of normally distributed poses around one view."""

    view: RigidTransform
    options: PairOptions

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        normal = torch.randn(count, 6, generator=generator, dtype=torch.float64)
        angles = torch.diag_embed(math.radians(self.options.rotation_deg) * normal[:, 3:])
        x, y, z = so3.exp(angles).unbind(1)
        rotation = x @ y @ z @ self.view.rotation
        spread = normal.new_tensor([self.options.translation_mm, self.options.translation_mm, self.options.depth_mm])
        pivot_in_camera = self.view.apply(aim_patient[None]) + spread * normal[:, :3]
        return RigidTransform(rotation, pivot_in_camera - rotation @ aim_patient)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch of X-rays and starting poses; every start is paired with every X-ray."""

    views: TrainingViews
    starts: RigidTransform


@dataclass(frozen=True, slots=True)
class PairMaker:
    """Maker of numbered batches of pairs of one CT; it uses the sample maker's X-rays, but not its source of poses."""

    samples: SampleMaker
    carm: CarmRange
    options: PairOptions

    def batch(self, n_views: int, n_starts: int, seed: int, number: int, xrays: XraysForValidation | None = None) -> Pairs:
        """Make batch `number` of a seed, with degraded projections or the X-rays of `xrays`.

        Raises:
            InputError: hardly any of the views shows bone.
        """
        reference, generator = self.samples.reference, seeded_generator(seed, _FIRST_START_BATCH + number)
        pivot = reference.pivot
        middle = self.options.around == "middle"
        view = self.carm.central_view(pivot) if middle else self.carm.sample(pivot, 1, generator)[0]
        views = self.samples.views(n_views, seed, number, PosesAround(view, self.options), xrays)
        if is_opposite_view(view, reference.camera_from_patient):
            view, views = opposite_view(view, pivot), views.from_opposite_side(pivot)
        return Pairs(views, PosesAround(view, self.options).sample(pivot, n_starts, generator))
