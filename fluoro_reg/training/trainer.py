"""`RegressorTraining`: training of a pose regressor on a CT and a range of views.

Every step uses new X-rays, so the network can overfit only to the CT, and its error on validation views equals that on training
views.
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
from fluoro_reg.training.validation import RegressorRecord, ValidationViews, validation_errors


@dataclass(slots=True)
class RegressorTraining(AbstractTraining[PoseRegressor, RegressorRecord, SubjectBatch]):
    """The training of a pose regressor; `run` may be called once."""

    options: TrainingOptions
    subjects: tuple[Subject, ...] = field(init=False)
    validation_views: tuple[ValidationViews, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.processes, options = ProcessGroup.join(self.device), self.options
        self.subjects = tuple(
            Subject.from_volume(ct, self.carm, options, self.device) for ct in (self.volume, *self.further_volumes)
        )
        n_views = max(1, options.validation_images // len(self.subjects))
        self.validation_views = tuple(ValidationViews(subject, n_views, options.seed) for subject in self.subjects)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = PoseRegressor(options.network, self.subjects[0].reference)
        if self.pretrained is not None:
            load_pretrained(self.pretrained, network)
        network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = new_state(network, RegressorRecord, options.learning_rate, options.weight_decay)

    def batch(self, number: int) -> SubjectBatch:
        subject = self.subjects[number % len(self.subjects)]
        return SubjectBatch(subject, subject.maker.batch(self.options.batch, self.options.seed, number))

    def backward(self, batch: SubjectBatch) -> Tensor:
        state = self.state
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            inputs = batch.samples.inputs.contiguous(memory_format=torch.channels_last)
            estimate = state.network(inputs, batch.subject.reference)
        loss, uncertainty_loss = self._losses(estimate, batch)
        (loss + self.options.losses.uncertainty * uncertainty_loss).backward()
        self.processes.average_gradients(state.network.parameters())
        uncertainty_parameters = list(state.network.factor_numbers.parameters())
        pose_parameters = [p for p in state.network.parameters() if all(p is not other for other in uncertainty_parameters)]
        for parameters in (pose_parameters, uncertainty_parameters):  # clipping one must not scale the other's steps
            torch.nn.utils.clip_grad_norm_(parameters, self.options.clip)
        return loss

    def validate(self, loss: float) -> RegressorRecord:
        errors = validation_errors(self.validation_views, self.state.average)
        return RegressorRecord(self.state.step, self.state.elapsed_s, loss, **asdict(errors))

    def save(self, out: Path) -> None:
        save_regressor(out, self.state.average, self.fingerprint, self.notes())

    def _losses(self, estimate: PoseEstimate, batch: SubjectBatch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the losses of the pose, and the loss of the uncertainty."""
        weights, samples, reference = self.options.losses, batch.samples, batch.subject.reference
        estimated = estimate.camera_from_patient
        truth = samples.target.to(estimated.translation)
        pivot, radius = reference.pivot.to(estimated.translation), self.carm.source_to_detector_mm / 2
        total = torch.zeros(len(estimated.translation), device=estimated.translation.device)
        if weights.geodesic:
            total = total + weights.geodesic * losses.geodesic(estimated, truth, pivot, radius)
        if weights.log_geodesic:
            total = total + weights.log_geodesic * losses.log_geodesic(estimated, truth, pivot, radius)
        if weights.landmarks:
            points = batch.subject.points_patient.to(estimated.translation)
            total = total + weights.landmarks * losses.projected_landmarks(estimated, truth, points, reference.intrinsics)
        if weights.image:
            poses = opposite_view_where(samples.opposite, estimated, reference.pivot)
            moving = batch.subject.maker.project(poses, samples.bone_contrast)
            total = total + weights.image * losses.image_loss(moving, samples.integrals)
        return total.mean(), losses.negative_log_likelihood(estimate, truth, pivot).mean()
