"""What every training here does alike: steps until they or the time run out, validations, the best weights, going on later.

A step is a batch that nobody has seen before, seeded by its number. The learning rate rises, then falls to zero along a cosine
over the whole of the steps or of the time; what is kept is the running average of the weights where it was best.
"""

import itertools
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.networks.weights import SEVERAL_CTS
from fluoro_reg.training.distributed import ProcessGroup
from fluoro_reg.training.options import LoopOptions
from fluoro_reg.training.prefetch import Prefetched
from fluoro_reg.training.state import AbstractRecord, TrainingState, read_state, write_state

N = TypeVar("N", bound=nn.Module)
R = TypeVar("R", bound=AbstractRecord)
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Progress(Generic[R]):
    """What may be shown of a training under way; `record` is the last validation."""

    share: float
    step: int
    loss: float
    record: R | None


@dataclass(slots=True)
class AbstractTraining(ABC, Generic[N, R, B]):
    """One training of a network N, judged by records R, on batches B; `run` may be called once.

    With `further` CTs, steps are about each in turn; `pretrained` names weights to begin from.
    """

    volume: CTVolume
    carm: CarmRange
    options: LoopOptions
    device: str = "cpu"
    further: tuple[CTVolume, ...] = ()
    pretrained: Path | None = None
    state: TrainingState[N, R] = field(init=False)
    processes: ProcessGroup = field(init=False)

    @abstractmethod
    def batch(self, number: int) -> B:
        """Made in a thread of its own where that pays."""

    @abstractmethod
    def backward(self, batch: B) -> Tensor:
        """The loss; leaves gradients, averaged over the processes and clipped."""

    @abstractmethod
    def validate(self, loss: float) -> R:
        """Judges the running average; `loss` is the mean since the last time."""

    @abstractmethod
    def save(self, out: Path) -> None:
        """Writes the weights of the running average."""

    def run(self, out: Path, resume: bool = False, tell: Callable[[Progress[R]], None] = lambda progress: None) -> R:
        """Trains, writes the weights and returns the validation of what was written.

        The state is kept beside the weights after every validation (`resume_file`) until the training is done.

        Raises:
            InputError: nothing to resume from, or a range that never shows the patient.
            OSError: a file cannot be written.
        """
        if resume:
            read_state(resume_file(out), self.state, self.settings())
        with one_core_for_rendering(self.device), self._batches() as batches:
            self._train(batches, out, tell)
        self.state.average.load_state_dict(self.state.best)
        if self.leads:
            self.save(out)
            resume_file(out).unlink(missing_ok=True)
        self.processes.leave()
        return self.best

    @property
    def leads(self) -> bool:
        """Whether this process, of several that train together, is the one that writes."""
        return self.processes.leads

    @property
    def best(self) -> R:
        """The validation of the weights that are kept."""
        return min(self.state.history, key=lambda record: record.error)

    @property
    def fingerprint(self) -> str:
        """Of the CT that the weights will know."""
        return SEVERAL_CTS if self.further else self.volume.fingerprint

    def notes(self) -> dict[str, Any]:
        """What the weights say of how they were made: the validation of what was kept, all validations, and the settings."""
        return {
            "validation": asdict(self.best),
            "history": [asdict(record) for record in self.state.history],
            "training": to_mapping(self.options),
            "range": to_mapping(self.carm),
        }

    def settings(self) -> dict[str, Any]:
        """What must be the same for a training to go on."""
        return {
            "training": to_mapping(self.options),
            "range": to_mapping(self.carm),
            "ct_fingerprints": [volume.fingerprint for volume in (self.volume, *self.further)],
            "processes": self.processes.size,
        }

    def _train(self, batches: Iterator[B], out: Path, tell: Callable[[Progress[R]], None]) -> None:
        state, options = self.state, self.options
        begun = time.perf_counter() - state.elapsed_s
        share = options.progress(state.step, state.elapsed_s)
        seen: list[Tensor] = []
        while share < 1 and state.since_best() < options.patience:
            loss = self._step(next(batches), share)
            seen.append(loss)
            state.step += 1
            state.elapsed_s = time.perf_counter() - begun
            before, share = share, self.processes.agreed(options.progress(state.step, state.elapsed_s), self.device)
            if math.floor(share * options.validations) > math.floor(before * options.validations):
                state.judged(self.validate(float(torch.stack(seen).mean())))
                seen.clear()
                if self.leads:
                    write_state(resume_file(out), state, self.settings())
            tell(Progress(share, state.step, float(loss), state.history[-1] if state.history else None))

    def _step(self, batch: B, share: float) -> Tensor:
        state = self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * rate(share, self.options.warm_up)
        state.optimiser.zero_grad(set_to_none=True)
        loss = self.backward(batch)
        state.optimiser.step()
        state.follow(self.options.average)
        return loss.detach()

    @contextmanager
    def _batches(self) -> Iterator[Iterator[B]]:
        """From the next step on: made ahead on the CPU, when they are wanted on a GPU."""

        def make(step: int) -> B:
            return self.batch(step * self.processes.size + self.processes.rank)

        if self.device == "cuda":
            yield map(make, itertools.count(self.state.step))
            return
        with Prefetched(make, self.state.step) as batches:
            yield batches


def rate(share: float, warm_up: float) -> float:
    """The learning rate as a share of the highest: a line up, a cosine down."""
    if share < warm_up:
        return max(share / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


def resume_file(out: Path) -> Path:
    """Where the state of a training is kept while it lasts."""
    return out.with_name(f"{out.stem}.resume.safetensors")


@contextmanager
def one_core_for_rendering(device: str) -> Iterator[None]:
    """torch leaves a core to the thread that renders: its own threads wait for each other whenever one is disturbed."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1) - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
