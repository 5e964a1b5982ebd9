"""`RegressorTraining`: from a CT and a range of views to a network that knows this patient.

A step is a batch of X-rays that nobody has seen before: made, looked at, forgotten. So there is nothing to overfit to but the
CT, and the error on held-back views is that of the training.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fluoro_reg.networks.opposite_view import opposite_view_where
from fluoro_reg.regressor import PoseEstimate, PoseRegressor, save_regressor
from fluoro_reg.regressor.checkpoint import load_pretrained
from fluoro_reg.training import losses
from fluoro_reg.training.distributed import ProcessGroup
from fluoro_reg.training.loop import AbstractTraining
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.state import new_state
from fluoro_reg.training.subject import Subject, SubjectBatch
from fluoro_reg.training.validation import HeldBack, Record, errors_over


@dataclass(slots=True)
class RegressorTraining(AbstractTraining[PoseRegressor, Record, SubjectBatch]):
    """One training; `run` may be called once. With `further` CTs, batches come from each in turn; `pretrained` names weights to
    begin from.
    """

    options: TrainingOptions
    subjects: tuple[Subject, ...] = field(init=False)
    held_back: tuple[HeldBack, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.processes, options = ProcessGroup.joined(self.device), self.options
        self.subjects = tuple(Subject.of(ct, self.carm, options, self.device) for ct in (self.volume, *self.further))
        share = max(1, options.validation_images // len(self.subjects))
        self.held_back = tuple(HeldBack(subject, share, options.seed) for subject in self.subjects)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = PoseRegressor(options.network, self.subjects[0].reference)
        if self.pretrained is not None:
            load_pretrained(self.pretrained, network)
        network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = new_state(network, Record, options.learning_rate, options.weight_decay)

    def batch(self, number: int) -> SubjectBatch:
        subject = self.subjects[number % len(self.subjects)]
        return SubjectBatch(subject, subject.maker.batch(self.options.batch, self.options.seed, number))

    def backward(self, batch: SubjectBatch) -> Tensor:
        state = self.state
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            inputs = batch.samples.inputs.contiguous(memory_format=torch.channels_last)
            estimate = state.network(inputs, batch.subject.reference)
        loss, doubt = self._losses(estimate, batch)
        (loss + self.options.losses.uncertainty * doubt).backward()
        self.processes.average_gradients(state.network.parameters())
        doubting = list(state.network.factor_numbers.parameters())
        looking = [p for p in state.network.parameters() if all(p is not other for other in doubting)]
        for group_of_parameters in (looking, doubting):  # one must not scale the other's steps
            torch.nn.utils.clip_grad_norm_(group_of_parameters, self.options.clip)
        return loss

    def validate(self, loss: float) -> Record:
        errors = errors_over(self.held_back, self.state.average)
        return Record(self.state.step, self.state.elapsed_s, loss, **asdict(errors))

    def save(self, out: Path) -> None:
        save_regressor(out, self.state.average, self.fingerprint, self.notes())

    def _losses(self, estimate: PoseEstimate, batch: SubjectBatch) -> tuple[Tensor, Tensor]:
        """The weighted sum that the pose answers for, and the doubt's negative log likelihood."""
        weights, samples, reference = self.options.losses, batch.samples, batch.subject.reference
        found = estimate.camera_from_patient
        truth = samples.target.to(found.translation)
        pivot, radius = reference.pivot.to(found.translation), self.carm.source_to_detector_mm / 2
        total = torch.zeros(len(found.translation), device=found.translation.device)
        if weights.geodesic:
            total = total + weights.geodesic * losses.geodesic(found, truth, pivot, radius)
        if weights.log_geodesic:
            total = total + weights.log_geodesic * losses.log_geodesic(found, truth, pivot, radius)
        if weights.landmarks:
            points = batch.subject.points_patient.to(found.translation)
            total = total + weights.landmarks * losses.projected_landmarks(found, truth, points, reference.intrinsics)
        if weights.image:
            seen = opposite_view_where(samples.behind, found, reference.pivot)
            moving = batch.subject.maker.project(seen, samples.bone_contrast)
            total = total + weights.image * losses.image_loss(moving, samples.integrals)
        return total.mean(), losses.negative_log_likelihood(estimate, truth, pivot).mean()
