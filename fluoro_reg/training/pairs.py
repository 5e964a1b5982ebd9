"""Pairs for a learned similarity: X-rays of the whole CT at true poses, and poses to start from.

Published: both drawn independently about one view, Euler angles x, y, z of 9.45 degrees and shifts of 22.4 mm along each axis
(standard deviations; 0.0525 pi, and 0.15 of half a cube of 298.5 mm), so a start is off by the square root of two of that, and
every start of a batch belongs to every X-ray of it. About the middle of a wide range of views this leaves out most of them;
with `around: range` each batch is about a view of its own, drawn from the range. Turns are about the pivot, along the camera's
axes. Source: the released code of C. Gao et al., MICCAI 2020.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import option
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.training.random_values import seeded_generator
from fluoro_reg.training.samples import SampleMaker, TrainingViews

_STARTS = 2**30  # batches from here on are those of starts; torch's generator on a CPU reads 32 bits of a seed, and no more


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How far starts and true poses lie from the view that they are about, and which view that is."""

    around: str = option("middle", "the middle of the range, or for each batch a view of it", choices=("middle", "range"))
    rotation_deg: float = option(9.45, "standard deviation of each Euler angle", unit="deg", minimum=0, maximum=60)
    translation_mm: float = option(22.4, "of each shift in the image plane", unit="mm", minimum=0, maximum=500)
    depth_mm: float = option(22.4, "of the shift in depth", unit="mm", minimum=0, maximum=500)


@dataclass(frozen=True, slots=True)
class PosesAbout:
    """A `ViewSource`: poses about one view, spread as normals."""

    view: RigidTransform
    options: PairOptions

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        normal = torch.randn(count, 6, generator=generator, dtype=torch.float64)
        angles = torch.diag_embed(math.radians(self.options.rotation_deg) * normal[:, 3:])
        x, y, z = so3.exp(angles).unbind(1)
        rotation = x @ y @ z @ self.view.rotation
        spread = normal.new_tensor([self.options.translation_mm, self.options.translation_mm, self.options.depth_mm])
        at = self.view.apply(aim_patient[None]) + spread * normal[:, :3]
        return RigidTransform(rotation, at - rotation @ aim_patient)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch: every start belongs to every X-ray."""

    views: TrainingViews
    starts: RigidTransform


@dataclass(frozen=True, slots=True)
class PairMaker:
    """Batches of pairs of one CT by number; of the maker of X-rays, its own source of views is not asked."""

    samples: SampleMaker
    carm: CarmRange
    options: PairOptions

    def pairs(self, n_views: int, n_starts: int, seed: int, number: int) -> Pairs:
        """Batch `number` of a seed.

        Raises:
            InputError: hardly any view of the spread shows bone.
        """
        pivot, generator = self.samples.reference.pivot, seeded_generator(seed, _STARTS + number)
        middle = self.options.around == "middle"
        view = self.carm.central_view(pivot) if middle else self.carm.sample(pivot, 1, generator)[0]
        about = PosesAbout(view, self.options)
        return Pairs(self.samples.views(n_views, seed, number, about), about.sample(pivot, n_starts, generator))
