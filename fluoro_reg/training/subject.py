"""A CT that a regressor learns from: its views, and the bone by which errors are told.

A network may learn of several. What it says counts from each CT's own reference view, about the middle of its skeleton, so that
patients are shown and answered alike, and a new one is learned in a fraction of the time (xvr, arXiv 2503.16309).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.aim import aim_point, bone_points
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.random_values import seeded_generator
from fluoro_reg.training.samples import SampleMaker, Samples

_BONE_SAMPLES, _LANDMARKS = 4000, 100


@dataclass(frozen=True, slots=True)
class Subject:
    """A CT with its maker of samples and points of its bone (patient mm)."""

    volume: CTVolume
    maker: SampleMaker
    points_patient: Float[Tensor, "n 3"]

    @staticmethod
    def of(volume: CTVolume, carm: CarmRange, options: TrainingOptions, device: str) -> "Subject":
        """Seen over a range of views."""
        bone = bone_points(volume, _BONE_SAMPLES, seeded_generator(0, 0))
        aim = aim_point(volume, bone)
        reference = ReferenceView(carm.central_view(aim), aim, carm.camera(options.network.image_px))
        return Subject(volume, SampleMaker(volume, carm, reference, options.degradations, device), bone[:_LANDMARKS])

    @property
    def reference(self) -> ReferenceView:
        return self.maker.reference


@dataclass(frozen=True, slots=True)
class SubjectBatch:
    """Samples of one subject."""

    subject: Subject
    samples: Samples
