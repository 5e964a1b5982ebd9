"""What an optimiser asks of a problem, by kind, and what it gives back.

A problem gives values to points about given starts. A point is six numbers away from its start, a twist [translation mm,
rotation rad] in a chart of the problem's choice. What starts are is the problem's affair too: the optimisers only pass rows of
them on, as batches in the sense of `fluoro_reg.optimisers.batch`. Smaller values are better; where a point has none it is inf.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SixNumbers = tuple[float, float, float, float, float, float]
Q = TypeVar("Q")
WORST = 1e12  # what a library is told of a point without a value: some reckon with differences of values


@runtime_checkable
class ValueProblem(Protocol):
    """For optimisers that only compare."""

    def values(self, starts: Any, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        """The value of each point: `twists[k]` away from `starts[k]`."""


@runtime_checkable
class GradientProblem(Protocol):
    """For optimisers that follow the gradient."""

    def values_and_gradient(
        self, starts: Any, twists: Float[Tensor, "batch 6"]
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch 6"]]:
        """The values, and each value's derivative to its own twist."""


@dataclass(frozen=True, slots=True)
class ByAutograd:
    """A `GradientProblem` of a `ValueProblem` that torch can differentiate."""

    problem: ValueProblem

    def values_and_gradient(
        self, starts: Any, twists: Float[Tensor, "batch 6"]
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch 6"]]:
        with torch.enable_grad():
            leaf = twists.detach().requires_grad_()
            values = self.problem.values(starts, leaf)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient


@dataclass(frozen=True, slots=True)
class Minima:
    """The best point evaluated about every start, never worse than the start itself.

    `converged` says that the optimiser's own tolerance ended the search, and `reasons` what ended it.
    """

    twists: Float[Tensor, "batch 6"]
    values: Float[Tensor, "batch"]
    converged: Bool[Tensor, "batch"]
    reasons: tuple[str, ...]
    evaluations: Int[Tensor, "batch"]


class AbstractOptimiser(ABC, Generic[Q]):
    """Final subclasses are the entries of `OPTIMISERS`: frozen dataclasses whose fields are their settings. `Q` is the type of
    problem that one needs. The same settings and the same problem give the same answer.
    """

    @abstractmethod
    def minimise(self, problem: Q, starts: Any) -> Minima:
        """Searches about every start of the batch; each search is independent of the others."""
