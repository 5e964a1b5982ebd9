"""The state of a training, and the file from which an interrupted one goes on as if nothing had happened.

Batches are numbered and each is seeded by its number, so no state of a generator need be kept: weights, their running average,
Adam's two moments and the number of the next step are all.
"""

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from fluoro_reg.errors import InputError
from fluoro_reg.networks.safetensors_file import read_tensors, write_tensors

KIND = "an unfinished training"


@dataclass(frozen=True, slots=True)
class AbstractRecord(ABC):
    """One validation: where the training was and the mean loss since the last one; subclasses add what was found."""

    step: int
    elapsed_s: float
    loss: float

    @property
    @abstractmethod
    def error(self) -> float:
        """What makes weights better than others: less is better."""


N = TypeVar("N", bound=nn.Module)
R = TypeVar("R", bound=AbstractRecord)


@dataclass(slots=True)
class TrainingState(Generic[N, R]):
    """Everything that a step changes. `best` are the averaged weights with the least error so far."""

    network: N
    average: N
    optimiser: torch.optim.AdamW
    record: type[R]
    step: int = 0
    elapsed_s: float = 0.0
    history: list[R] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def since_best(self) -> int:
        """Validations since the best one."""
        errors = [record.error for record in self.history]
        return len(errors) - 1 - errors.index(min(errors)) if errors else 0

    @torch.no_grad()
    def follow(self, keep: float) -> None:
        """The running average takes a step; young averages forget faster, lest they remember the first weights."""
        keep = min(keep, (1 + self.step) / (10 + self.step))
        for ours, theirs in zip(self.average.parameters(), self.network.parameters(), strict=True):
            ours.lerp_(theirs, 1 - keep)

    def judged(self, record: R) -> None:
        """Notes a validation of the running average, and keeps its weights when they are the best."""
        if record.error < min((earlier.error for earlier in self.history), default=math.inf):
            self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        self.history.append(record)


def new_state(network: N, record: type[R], learning_rate: float, weight_decay: float) -> TrainingState[N, R]:
    """Before the first step."""
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
    return TrainingState(network, average, optimiser, record)


def write_state(path: Path, state: TrainingState[N, R], settings: Mapping[str, Any]) -> None:
    """Everything of the state, with the settings that it belongs to."""
    tensors = _named("network", state.network.state_dict()) | _named("average", state.average.state_dict())
    tensors |= _named("best", state.best)
    for number, moments in state.optimiser.state_dict()["state"].items():
        tensors |= _named(f"adam.{number}", moments)
    header = {"kind": KIND, "settings": dict(settings), "step": state.step, "elapsed_s": state.elapsed_s}
    write_tensors(path, tensors, header | {"history": [asdict(record) for record in state.history]})


def read_state(path: Path, state: TrainingState[N, R], settings: Mapping[str, Any]) -> None:
    """Puts what a file holds into a new state.

    Raises:
        InputError: no such file, not of a training, or of one with other settings.
    """
    if not path.is_file():
        raise InputError(f"there is no {path.name} to resume from; leave --resume out to begin anew")
    tensors, header = read_tensors(path, KIND)
    if header.get("settings") != json.loads(json.dumps(settings)):  # which makes lists of tuples
        raise InputError(
            f"{path.name} belongs to a training with other settings, range or CT; leave --resume out to begin anew"
        )
    try:
        state.network.load_state_dict(_under("network", tensors))
        state.average.load_state_dict(_under("average", tensors))
        state.best = _under("best", tensors)
        adam = state.optimiser.state_dict()
        moments = _under("adam", tensors)
        numbers = {int(name.split(".")[0]) for name in moments}
        adam["state"] = {number: _under(str(number), moments) for number in numbers}
        state.optimiser.load_state_dict(adam)
        state.step, state.elapsed_s = int(header["step"]), float(header["elapsed_s"])
        state.history = [state.record(**record) for record in header["history"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path.name} is damaged; leave --resume out to begin anew") from error


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
