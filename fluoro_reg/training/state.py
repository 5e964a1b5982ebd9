"""The state of a training, and the file from which an interrupted training resumes with the same result.

Each batch is seeded by its number, so no generator state is stored: weights, their running average, Adam's two moments and the
number of the next step are enough.
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
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fluoro_reg.errors import InputError
from fluoro_reg.networks.safetensors_file import read_tensors, write_tensors

KIND = "an unfinished training"


@dataclass(frozen=True, slots=True)
class AbstractRecord(ABC):
    """One validation: step, time and the mean training loss since the last validation; subclasses add the errors."""

    step: int
    elapsed_s: float
    loss: float

    @property
    @abstractmethod
    def error(self) -> float:
        """The error by which weights are compared; lower is better."""


N = TypeVar("N", bound=nn.Module)
R = TypeVar("R", bound=AbstractRecord)


@dataclass(slots=True)
class TrainingState(Generic[N, R]):
    """Everything that a step changes; `best` are the averaged weights with the minimum error so far."""

    network: N
    average: N
    optimiser: torch.optim.AdamW
    record_type: type[R]
    step: int = 0
    elapsed_s: float = 0.0
    history: list[R] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def validations_since_best(self) -> int:
        """Return the number of validations since the best one."""
        errors = [record.error for record in self.history]
        return len(errors) - 1 - errors.index(min(errors)) if errors else 0

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Update the running average; it decays faster at first, so that it forgets the initial weights."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        update = get_ema_multi_avg_fn(decay)  # of all tensors at once
        update(list(self.average.parameters()), list(self.network.parameters()), None)

    def record_validation(self, record: R) -> None:
        """Add a validation of the running average, and keep its weights if they are the best."""
        if record.error < min((earlier.error for earlier in self.history), default=math.inf):
            self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        self.history.append(record)


def new_state(network: N, record_type: type[R], learning_rate: float, weight_decay: float) -> TrainingState[N, R]:
    """Return the state before the first step."""
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay, fused=True)
    return TrainingState(network, average, optimiser, record_type)


def write_state(path: Path, state: TrainingState[N, R], settings: Mapping[str, Any]) -> None:
    """Write the state, with the settings of its training."""
    tensors = _with_prefix("network", state.network.state_dict()) | _with_prefix("average", state.average.state_dict())
    tensors |= _with_prefix("best", state.best)
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= _with_prefix(f"adam.{index}", moments)
    header = {"kind": KIND, "settings": dict(settings), "step": state.step, "elapsed_s": state.elapsed_s}
    write_tensors(path, tensors, header | {"history": [asdict(record) for record in state.history]})


def read_state(path: Path, state: TrainingState[N, R], settings: Mapping[str, Any]) -> None:
    """Read a file into a new state.

    Raises:
        InputError: the file is missing, damaged, not the state of a training, or of one with other settings.
    """
    if not path.is_file():
        raise InputError(f"there is no {path.name} to resume from; leave --resume out to start anew")
    tensors, header = read_tensors(path, KIND)
    if header.get("settings") != json.loads(json.dumps(settings)):  # JSON turns tuples into lists
        raise InputError(
            f"{path.name} belongs to a training with other settings, range or CT; leave --resume out to start anew"
        )
    try:
        state.network.load_state_dict(_without_prefix("network", tensors))
        state.average.load_state_dict(_without_prefix("average", tensors))
        state.best = _without_prefix("best", tensors)
        adam = state.optimiser.state_dict()
        moments = _without_prefix("adam", tensors)
        adam["state"] = {
            index: _in_memory_like(parameter, _without_prefix(str(index), moments))
            for index, parameter in enumerate(state.network.parameters())
            if f"{index}.step" in moments
        }
        state.optimiser.load_state_dict(adam)
        state.step, state.elapsed_s = int(header["step"]), float(header["elapsed_s"])
        state.history = [state.record_type(**record) for record in header["history"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path.name} is damaged; leave --resume out to start anew") from error


def _in_memory_like(parameter: Tensor, moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return moments in the memory format of their parameter: the fused optimiser reads both in the order of the memory."""
    return {name: torch.empty_like(parameter).copy_(x) if x.ndim else x for name, x in moments.items()}


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
