"""Pairs for a learned similarity: an X-ray of the whole CT at a true pose, and a pose to start from.

Published: both drawn independently about one view, Euler angles x, y, z of 9.45 degrees and shifts of 22.4 mm along each axis
(standard deviations; 0.0525 pi, and 0.15 of half a cube of 298.5 mm), so a start is off by the square root of two of that.
About the middle of a wide range of views this leaves out most of them; `around: range` draws the true pose from the range and
the start about it, as far off as before. Turns are about the pivot, along the camera's axes. Source: the released code of
C. Gao et al., MICCAI 2020.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.evaluation.carm_range import CarmRange
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.training.draws import seeded_generator
from fluoro_reg.training.samples import SampleMaker, Views

_STARTS = 2**30  # batches from here on are those of starts; torch's generator on a CPU reads 32 bits of a seed, and no more


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How far start and truth lie apart, and where."""

    around: str = option("middle", "both about the middle of the range, or about a view of it", choices=("middle", "range"))
    rotation_deg: float = option(9.45, "standard deviation of each Euler angle", unit="deg", minimum=0, maximum=60)
    translation_mm: float = option(22.4, "standard deviation of each shift", unit="mm", minimum=0, maximum=500)


@dataclass(frozen=True, slots=True)
class PoseSpread:
    """A `ViewSource` of true poses, and the starts that belong to them."""

    carm: CarmRange
    options: PairOptions

    def sample(self, aim_patient: Float[Tensor, "3"], count: int, generator: torch.Generator) -> RigidTransform:
        if self.options.around == "range":
            return self.carm.sample(aim_patient, count, generator)
        return self._about(self._middle(aim_patient, count), aim_patient, 1.0, generator)

    def starts(self, truth: RigidTransform, aim_patient: Float[Tensor, "3"], generator: torch.Generator) -> RigidTransform:
        """One start a true pose."""
        if self.options.around == "range":
            return self._about(truth, aim_patient, math.sqrt(2), generator)
        return self._about(self._middle(aim_patient, len(truth.translation)), aim_patient, 1.0, generator)

    def _middle(self, aim_patient: Float[Tensor, "3"], count: int) -> RigidTransform:
        return RigidTransform.stack([self.carm.middle(aim_patient)] * count)

    def _about(
        self, poses: RigidTransform, pivot: Float[Tensor, "3"], times: float, generator: torch.Generator
    ) -> RigidTransform:
        normal = times * torch.randn(len(poses.translation), 6, generator=generator, dtype=torch.float64)
        angles = torch.diag_embed(math.radians(self.options.rotation_deg) * normal[:, 3:])
        x, y, z = so3.exp(angles).unbind(1)
        rotation = x @ y @ z @ poses.rotation
        at = poses.apply(pivot[None])[:, 0] + self.options.translation_mm * normal[:, :3]
        return RigidTransform(rotation, at - rotation @ pivot)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch."""

    views: Views
    starts: RigidTransform


def make_pairs(maker: SampleMaker, spread: PoseSpread, count: int, seed: int, number: int) -> Pairs:
    """Batch `number` of a seed; the maker draws its views from the same spread.

    Raises:
        InputError: hardly any view of the spread shows bone.
    """
    views = maker.views(count, seed, number)
    generator = seeded_generator(seed, _STARTS + number)
    return Pairs(views, spread.starts(views.camera_from_patient, maker.reference.pivot, generator))
