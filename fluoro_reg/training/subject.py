"""A CT in the training of a regressor: its samples, and the bone points that errors are measured with.

A network can be trained on several CTs. Its output is relative to each CT's own reference view about its aim point, so that
patients look alike and have similar poses, and a new patient is learned in a fraction of the time (xvr, arXiv 2503.16309).
"""

from dataclasses import dataclass

import torch
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
    """A CT with its sample maker and points of its bone (mm, patient frame).

    `points` and `view` are the points and the reference view as a step needs them: float32, on the device.
    """

    volume: CTVolume
    maker: SampleMaker
    points_patient: Float[Tensor, "n 3"]
    points: Float[Tensor, "n 3"]
    view: ReferenceView

    @staticmethod
    def from_volume(volume: CTVolume, carm: CarmRange, options: TrainingOptions, device: str) -> "Subject":
        """Return the subject for a CT and a range of views."""
        bone = bone_points(volume, _BONE_SAMPLES, seeded_generator(0, 0))
        aim = aim_point(volume, bone)
        reference = ReferenceView(carm.central_view(aim), aim, carm.camera(options.network.image_px))
        maker, landmarks = SampleMaker(volume, carm, reference, options.degradations, device), bone[:_LANDMARKS]
        return Subject(volume, maker, landmarks, landmarks.to(device, torch.float32), reference.on(device))

    @property
    def reference(self) -> ReferenceView:
        return self.maker.reference


@dataclass(frozen=True, slots=True)
class SubjectBatch:
    """A batch of samples of one subject."""

    subject: Subject
    samples: Samples
