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

    def prepare(self) -> None:
        options = self.options
        self.subjects = tuple(
            Subject.from_volume(ct, self.carm, options, self.device) for ct in (self.volume, *self.further_volumes)
        )
        n_views = max(1, options.validation_images // len(self.subjects))
        self.validation_views = tuple(
            ValidationViews(subject, n_views, options.seed, self.threads) for subject in self.subjects
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = PoseRegressor(options.network, self.subjects[0].reference)
        if self.pretrained is not None:
            load_pretrained(self.pretrained, network)
        network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.state = new_state(network, RegressorRecord, options.learning_rate, options.weight_decay)

    def batches(self, number: int) -> list[SubjectBatch]:
        subject, options = self.subjects[number % len(self.subjects)], self.options
        samples = subject.maker.batch(options.ahead * options.batch, options.seed, number)
        return [SubjectBatch(subject, part) for part in samples.split(options.batch)]

    def backward(self, batch: SubjectBatch) -> Tensor:
        network = self.state.network
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            inputs = batch.samples.inputs.contiguous(memory_format=torch.channels_last)
            estimate = network(inputs, batch.subject.view)
        loss, uncertainty_loss = self._losses(estimate, batch)
        (loss + self.options.losses.uncertainty * uncertainty_loss).backward()
        self.processes.average_gradients(network.parameters())
        pose_parameters = [*network.backbone.parameters(), *network.pose_numbers.parameters()]
        for parameters in (
            pose_parameters,
            network.factor_numbers.parameters(),
        ):  # clipping one must not scale the other's steps
            torch.nn.utils.clip_grad_norm_(parameters, self.options.clip)
        return loss

    def validate(self, loss: float) -> RegressorRecord:
        errors = validation_errors(self.validation_views, self.state.average)
        return RegressorRecord(self.state.step, self.state.elapsed_s, loss, **asdict(errors))

    def save(self, out: Path) -> None:
        save_regressor(out, self.state.average, self.fingerprint, self.notes())

    def _losses(self, estimate: PoseEstimate, batch: SubjectBatch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the losses of the pose, and the loss of the uncertainty."""
        weights, samples, subject = self.options.losses, batch.samples, batch.subject
        estimated, truth, pivot = estimate.camera_from_patient, samples.target, subject.view.pivot
        radius = self.carm.source_to_detector_mm / 2
        total = torch.zeros(len(estimated.translation), device=estimated.translation.device)
        if weights.geodesic:
            total = total + weights.geodesic * losses.geodesic(estimated, truth, pivot, radius)
        if weights.log_geodesic:
            total = total + weights.log_geodesic * losses.log_geodesic(estimated, truth, pivot, radius)
        if weights.landmarks:
            camera = subject.view.intrinsics
            total = total + weights.landmarks * losses.projected_landmarks(estimated, truth, subject.points, camera)
        if weights.image:
            poses = opposite_view_where(samples.opposite, estimated, pivot)
            moving = subject.maker.project(poses, samples.projections.bone_contrast)
            total = total + weights.image * losses.image_loss(moving, samples.projections.integrals)
        return total.mean(), losses.negative_log_likelihood(estimate, truth, pivot).mean()
