"""`RegressorTraining`: from a CT and a range of views to a network that knows this patient.

A step is a batch of X-rays that nobody has seen before: made, looked at, forgotten. So there is nothing to overfit to but the
CT, and the error on held-back views is that of the training. The learning rate rises, then falls to zero along a cosine over
the whole of the steps or of the time; what is kept is the running average of the weights where it was best.
"""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.carm_range import CarmRange
from fluoro_reg.evaluation.views import aim_point, bone_points
from fluoro_reg.regressor import PoseEstimate, PoseRegressor, ReferenceView, save_regressor
from fluoro_reg.regressor.behind import where_behind
from fluoro_reg.training import losses
from fluoro_reg.training.draws import seeded_generator
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.prefetch import Prefetched
from fluoro_reg.training.samples import SampleMaker, Samples
from fluoro_reg.training.state import Record, TrainingState, new_state, read_state, write_state
from fluoro_reg.training.team import Team
from fluoro_reg.training.validation import HeldBack

_BONE_SAMPLES, _LANDMARKS = 4000, 100


@dataclass(frozen=True, slots=True)
class Progress:
    """What may be shown of a training under way; `record` is the last validation."""

    share: float
    step: int
    loss: float
    record: Record | None


@dataclass(slots=True)
class RegressorTraining:
    """One training; `run` may be called once."""

    volume: CTVolume
    carm: CarmRange
    options: TrainingOptions
    device: str = "cpu"
    maker: SampleMaker = field(init=False)
    held_back: HeldBack = field(init=False)
    state: TrainingState = field(init=False)
    _points: Float[Tensor, "n 3"] = field(init=False)
    _team: Team = field(init=False)

    def __post_init__(self) -> None:
        self._team = Team.joined(self.device)
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
        self.state = new_state(network, self.options.learning_rate, self.options.weight_decay)

    def run(self, out: Path, resume: bool = False, tell: Callable[[Progress], None] = lambda progress: None) -> Record:
        """Trains, writes the weights and returns the errors of what was written.

        The state is kept beside the weights after every validation (`resume_file`) until the training is done.

        Raises:
            InputError: nothing to resume from, or a range that never shows the patient.
            OSError: a file cannot be written.
        """
        if resume:
            read_state(resume_file(out), self.state, self._settings())
        with _one_core_for_rendering(self.device), self._batches() as batches:
            self._train(batches, out, tell)
        self.state.average.load_state_dict(self.state.best)
        if self.leads:
            notes = {"validation": asdict(self.best), "training": self._settings()["training"], "range": to_mapping(self.carm)}
            save_regressor(out, self.state.average, self.volume.fingerprint, notes)
            resume_file(out).unlink(missing_ok=True)
        self._team.leave()
        return self.best

    @property
    def leads(self) -> bool:
        """Whether this process, of several that train together, is the one that writes."""
        return self._team.leads

    @property
    def best(self) -> Record:
        """The validation of the weights that are kept."""
        return min(self.state.history, key=lambda record: record.mtre_mm)

    def _train(self, batches: Iterator[Samples], out: Path, tell: Callable[[Progress], None]) -> None:
        state, options = self.state, self.options
        begun = time.perf_counter() - state.elapsed_s
        share = options.progress(state.step, state.elapsed_s)
        seen: list[Tensor] = []
        while share < 1 and state.since_best() < options.patience:
            loss = self._step(next(batches), share)
            seen.append(loss)
            state.step += 1
            state.elapsed_s = time.perf_counter() - begun
            before, share = share, self._team.agreed(options.progress(state.step, state.elapsed_s), self.device)
            if math.floor(share * options.validations) > math.floor(before * options.validations):
                self._validate(float(torch.stack(seen).mean()))
                seen.clear()
                if self.leads:
                    write_state(resume_file(out), state, self._settings())
            tell(Progress(share, state.step, float(loss), state.history[-1] if state.history else None))

    def _step(self, samples: Samples, share: float) -> Tensor:
        state = self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * rate(share, self.options.warm_up)
        state.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            estimate = state.network(samples.inputs.contiguous(memory_format=torch.channels_last))
        loss, doubt = self._losses(estimate, samples)
        (loss + self.options.losses.uncertainty * doubt).backward()
        self._team.average_gradients(state.network.parameters())
        doubting = list(state.network.factor_numbers.parameters())
        looking = [p for p in state.network.parameters() if all(p is not other for other in doubting)]
        for group_of_parameters in (looking, doubting):  # one must not scale the other's steps
            torch.nn.utils.clip_grad_norm_(group_of_parameters, self.options.clip)
        state.optimiser.step()
        state.follow(self.options.average)
        return loss.detach()

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

    def _validate(self, loss: float) -> None:
        errors = self.held_back.errors(self.state.average)
        self.state.judged(Record(self.state.step, self.state.elapsed_s, loss, **asdict(errors)))

    @contextmanager
    def _batches(self) -> Iterator[Iterator[Samples]]:
        """From the next step on: made ahead on the CPU, when they are wanted on a GPU."""

        def make(step: int) -> Samples:
            return self.maker.batch(self.options.batch, self.options.seed, step * self._team.size + self._team.rank)

        if self.device == "cuda":
            yield map(make, itertools.count(self.state.step))
            return
        with Prefetched(make, self.state.step) as batches:
            yield batches

    def _settings(self) -> dict[str, Any]:
        return {
            "training": to_mapping(self.options),
            "range": to_mapping(self.carm),
            "ct_fingerprint": self.volume.fingerprint,
            "processes": self._team.size,
        }


def rate(share: float, warm_up: float) -> float:
    """The learning rate as a share of the highest: a line up, a cosine down."""
    if share < warm_up:
        return max(share / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


def resume_file(out: Path) -> Path:
    """Where the state of a training is kept while it lasts."""
    return out.with_name(f"{out.stem}.resume.safetensors")


@contextmanager
def _one_core_for_rendering(device: str) -> Iterator[None]:
    """torch leaves a core to the thread that renders: its own threads wait for each other whenever one is disturbed."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1) - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
