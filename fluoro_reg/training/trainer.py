"""`RegressorTraining`: from a CT and a range of views to a network that knows this patient.

A step is a batch of X-rays that nobody has seen before: made, looked at, forgotten. So there is nothing to overfit to but the
CT, and the error on held-back views is that of the training.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.evaluation.views import aim_point, bone_points
from fluoro_reg.regressor import PoseEstimate, PoseRegressor, ReferenceView, save_regressor
from fluoro_reg.regressor.behind import where_behind
from fluoro_reg.training import losses
from fluoro_reg.training.draws import seeded_generator
from fluoro_reg.training.loop import AbstractTraining
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.samples import SampleMaker, Samples
from fluoro_reg.training.state import new_state
from fluoro_reg.training.team import Team
from fluoro_reg.training.validation import HeldBack, Record

_BONE_SAMPLES, _LANDMARKS = 4000, 100


@dataclass(slots=True)
class RegressorTraining(AbstractTraining[PoseRegressor, Record, Samples]):
    """One training; `run` may be called once."""

    options: TrainingOptions
    maker: SampleMaker = field(init=False)
    held_back: HeldBack = field(init=False)
    _points: Float[Tensor, "n 3"] = field(init=False)

    def __post_init__(self) -> None:
        self.team = Team.joined(self.device)
        bone = bone_points(self.volume, _BONE_SAMPLES, seeded_generator(0, 0))
        aim = aim_point(self.volume, bone)
        reference = ReferenceView(self.carm.middle(aim), aim, self.carm.camera(self.options.network.image_px))
        self._points = bone[:_LANDMARKS]
        self.maker = SampleMaker(self.volume, self.carm, reference, self.options.degradations, self.device)
        self.held_back = HeldBack(self.maker, self._points, self.options.validation_images, self.options.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            network = PoseRegressor(self.options.network, reference)
        network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = new_state(network, Record, self.options.learning_rate, self.options.weight_decay)

    def batch(self, number: int) -> Samples:
        return self.maker.batch(self.options.batch, self.options.seed, number)

    def backward(self, batch: Samples) -> Tensor:
        state = self.state
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            estimate = state.network(batch.inputs.contiguous(memory_format=torch.channels_last))
        loss, doubt = self._losses(estimate, batch)
        (loss + self.options.losses.uncertainty * doubt).backward()
        self.team.average_gradients(state.network.parameters())
        doubting = list(state.network.factor_numbers.parameters())
        looking = [p for p in state.network.parameters() if all(p is not other for other in doubting)]
        for group_of_parameters in (looking, doubting):  # one must not scale the other's steps
            torch.nn.utils.clip_grad_norm_(group_of_parameters, self.options.clip)
        return loss

    def validate(self, loss: float) -> Record:
        errors = self.held_back.errors(self.state.average)
        return Record(self.state.step, self.state.elapsed_s, loss, **asdict(errors))

    def save(self, out: Path) -> None:
        save_regressor(out, self.state.average, self.volume.fingerprint, self.notes())

    def _losses(self, estimate: PoseEstimate, samples: Samples) -> tuple[Tensor, Tensor]:
        """The weighted sum that the pose answers for, and the doubt's negative log likelihood."""
        weights, reference = self.options.losses, self.maker.reference
        found = estimate.camera_from_patient
        truth = samples.target.to(found.translation)
        pivot, radius = reference.pivot.to(found.translation), self.carm.source_to_detector_mm / 2
        total = torch.zeros(len(found.translation), device=found.translation.device)
        if weights.geodesic:
            total = total + weights.geodesic * losses.geodesic(found, truth, pivot, radius)
        if weights.log_geodesic:
            total = total + weights.log_geodesic * losses.log_geodesic(found, truth, pivot, radius)
        if weights.landmarks:
            points = self._points.to(found.translation)
            total = total + weights.landmarks * losses.projected_landmarks(found, truth, points, reference.intrinsics)
        if weights.image:
            seen = where_behind(samples.behind, found, reference.pivot)
            moving = self.maker.project(seen, samples.bone_contrast)
            total = total + weights.image * losses.image_loss(moving, samples.integrals)
        return total.mean(), losses.negative_log_likelihood(estimate, truth, pivot).mean()
