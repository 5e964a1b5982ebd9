"""The training loop: steps, validations, the best weights and resumption.

Each step trains on a new batch. The batches of several steps are made at once and seeded by their number. The learning rate
rises, then falls to zero along a cosine over the number of steps or the time. The result is the running average of the weights
at its best validation.
"""

import itertools
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.networks.weights import SEVERAL_CTS
from fluoro_reg.training.distributed import ProcessGroup
from fluoro_reg.training.options import LoopOptions
from fluoro_reg.training.prefetch import Prefetcher
from fluoro_reg.training.simulated_xrays import XrayThreads
from fluoro_reg.training.state import AbstractRecord, TrainingState, read_state, write_state

N = TypeVar("N", bound=nn.Module)
R = TypeVar("R", bound=AbstractRecord)
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Progress(Generic[R]):
    """Progress of a training: the fraction done (0 to 1), the step, its loss and the last validation.

    The loss is a tensor on the device; whoever asks for its value waits for the step.
    """

    fraction: float
    step: int
    loss: Float[Tensor, ""]
    record: R | None


@dataclass(slots=True)
class Durations:
    """What took how long, as this process saw it: a GPU may still be at work.

    Attributes:
        setup_s: the time before the first step, which is not part of the budget.
        data_s: the part of the budget in which steps waited for their batches.
        validation_s: the part of the budget in which the weights were validated, and waited for the X-rays.
    """

    setup_s: float = 0.0
    data_s: float = 0.0
    validation_s: float = 0.0


@dataclass(slots=True)
class AbstractTraining(ABC, Generic[N, R, B]):
    """A training of a network N on batches B, with validation records R; `run` may be called once.

    Attributes:
        volume: the CT.
        carm: the range of views.
        options: the settings.
        device: `cpu` or `cuda`.
        further_volumes: more CTs; steps then use the CTs in turn.
        pretrained: weights to start from.
        state: what a step changes.
        processes: the processes that train together.
        threads: what makes the X-rays of the validation while the first steps run.
        durations: what took how long.
    """

    volume: CTVolume
    carm: CarmRange
    options: LoopOptions
    device: str = "cpu"
    further_volumes: tuple[CTVolume, ...] = ()
    pretrained: Path | None = None
    state: TrainingState[N, R] = field(init=False)
    processes: ProcessGroup = field(init=False)
    threads: XrayThreads = field(init=False)
    durations: Durations = field(init=False, default_factory=Durations)

    def __post_init__(self) -> None:
        started = time.perf_counter()
        self.processes, self.threads = ProcessGroup.join(self.device), XrayThreads(self.device)
        try:
            self.prepare()
        except BaseException:
            self.threads.close()
            raise
        self.durations.setup_s = time.perf_counter() - started

    @abstractmethod
    def prepare(self) -> None:
        """Set the state and what the steps need, and start to make the X-rays of the validation."""

    @abstractmethod
    def batches(self, number: int) -> Sequence[B]:
        """Make the batches of the next `options.ahead` steps, `number` in all; in another thread when training on a CPU."""

    @abstractmethod
    def backward(self, batch: B) -> Tensor:
        """Return the loss and set the gradients, averaged over the processes and clipped."""

    @abstractmethod
    def validate(self, loss: float) -> R:
        """Validate the running average; `loss` is the mean training loss since the last validation."""

    @abstractmethod
    def save(self, out: Path) -> None:
        """Write the weights of the running average."""

    def run(self, out: Path, resume: bool = False, report: Callable[[Progress[R]], None] = lambda progress: None) -> R:
        """Train and write the weights.

        After every validation the state is written beside the weights (`resume_path`); it is deleted at the end.

        Args:
            out: the weights file.
            resume: whether to continue an interrupted training from its state.
            report: called after every step.

        Returns:
            The validation of the weights that were written.

        Raises:
            InputError: there is nothing to resume from, or the range never shows the patient.
            OSError: a file cannot be written.
        """
        try:
            if resume:
                read_state(resume_path(out), self.state, self.settings())
            with reserve_core_for_rendering(self.device), self._batches() as batches:
                self._train(batches, out, report)
        finally:
            self.threads.close()
        self.state.average.load_state_dict(self.state.best)
        if self.is_main:
            self.save(out)
            resume_path(out).unlink(missing_ok=True)
        self.processes.close()
        return self.best

    @property
    def is_main(self) -> bool:
        """Whether this process, of several that train together, is the one that writes files."""
        return self.processes.is_main

    @property
    def best(self) -> R:
        """The validation of the weights that are kept."""
        return min(self.state.history, key=lambda record: record.error)

    @property
    def fingerprint(self) -> str:
        """The fingerprint for the weights file."""
        return SEVERAL_CTS if self.further_volumes else self.volume.fingerprint

    def notes(self) -> dict[str, Any]:
        """Return notes for the weights file: the validation of the weights, all validations, and the settings."""
        return {
            "validation": asdict(self.best),
            "history": [asdict(record) for record in self.state.history],
            "training": to_mapping(self.options),
            "range": to_mapping(self.carm),
        }

    def settings(self) -> dict[str, Any]:
        """Return what must be the same to resume a training."""
        return {
            "training": to_mapping(self.options),
            "range": to_mapping(self.carm),
            "ct_fingerprints": [volume.fingerprint for volume in (self.volume, *self.further_volumes)],
            "processes": self.processes.size,
        }

    def _train(self, batches: Iterator[B], out: Path, report: Callable[[Progress[R]], None]) -> None:
        state, options = self.state, self.options
        started = time.perf_counter() - state.elapsed_s
        fraction = options.fraction_done(state.step, state.elapsed_s)
        losses: list[Tensor] = []
        is_due = False
        while fraction < 1 and state.validations_since_best() < options.patience:
            loss = self._step(self._next(batches), fraction)
            losses.append(loss)
            state.step += 1
            state.elapsed_s = time.perf_counter() - started
            before = fraction
            fraction = self.processes.broadcast(options.fraction_done(state.step, state.elapsed_s), self.device)
            is_due |= math.floor(fraction * options.validations) > math.floor(before * options.validations)
            if is_due and self._can_validate(fraction):
                self._validate(losses, out)
                losses, is_due = [], False
            report(Progress(fraction, state.step, loss, state.history[-1] if state.history else None))

    def _next(self, batches: Iterator[B]) -> B:
        asked = time.perf_counter()
        batch = next(batches)
        self.durations.data_s += time.perf_counter() - asked
        return batch

    def _can_validate(self, fraction: float) -> bool:
        """Whether the X-rays are made. Where the number of steps decides they are waited for; when time is up, few suffice."""
        if not self.options.is_timed:
            return True
        if fraction == 1:
            self.threads.stop()
            return True
        return self.processes.broadcast(float(self.threads.have_finished()), self.device) == 1

    def _validate(self, losses: list[Tensor], out: Path) -> None:
        asked = time.perf_counter()
        self.state.record_validation(self.validate(float(torch.stack(losses).mean())))
        if self.is_main:
            write_state(resume_path(out), self.state, self.settings())
        self.durations.validation_s += time.perf_counter() - asked

    def _step(self, batch: B, fraction: float) -> Tensor:
        state = self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * learning_rate_factor(fraction, self.options.warm_up)
        state.optimiser.zero_grad(set_to_none=True)
        loss = self.backward(batch)
        state.optimiser.step()
        state.update_average(self.options.average)
        return loss.detach()

    @contextmanager
    def _batches(self) -> Iterator[Iterator[B]]:
        """Yield the batches from the next step on; they are prefetched on the CPU and made on demand on a GPU."""
        turn, done = divmod(self.state.step, self.options.ahead)

        def make(number: int) -> Sequence[B]:
            return self.batches(number * self.processes.size + self.processes.rank)

        if self.device == "cuda":
            yield _one_by_one(map(make, itertools.count(turn)), done)
            return
        with Prefetcher(make, turn) as several:
            yield _one_by_one(several, done)


def _one_by_one(several: Iterator[Sequence[B]], done: int) -> Iterator[B]:
    """Iterate over the batches that are not done yet."""
    return itertools.islice(itertools.chain.from_iterable(several), done, None)


def learning_rate_factor(fraction: float, warm_up: float) -> float:
    """Return the learning rate as a fraction of the maximum: a linear warm-up, then a cosine."""
    if fraction < warm_up:
        return max(fraction / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (fraction - warm_up) / (1 - warm_up)))


def resume_path(out: Path) -> Path:
    """Return the path of the file with the state of an unfinished training."""
    return out.with_name(f"{out.stem}.resume.safetensors")


@contextmanager
def reserve_core_for_rendering(device: str) -> Iterator[None]:
    """Leave a CPU core to the rendering thread: torch's threads wait for each other when one of them is delayed."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1) - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
