"""The problems that optimisers solve, and their results.

A problem assigns values to points near given starts. A point is given by its twist [translation mm, rotation rad] from its
start, in a chart that the problem chooses. The type of starts is also the problem's choice: optimisers only select rows of
them, as batches in the sense of `fluoro_reg.optimisers.batch`. Smaller values are better, and a point without a value has inf.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TwistComponents = tuple[float, float, float, float, float, float]
ProblemT = TypeVar("ProblemT")
PENALTY_VALUE = 1e12  # stands for an infinite value in libraries that compute differences of values


@runtime_checkable
class ValueProblem(Protocol):
    """A problem for optimisers that only compare values."""

    def values(self, starts: Any, twists: Float[Tensor, "batch 6"]) -> Float[Tensor, "batch"]:
        """Return the value of each point, at `twists[k]` from `starts[k]`."""


@runtime_checkable
class GradientProblem(Protocol):
    """A problem for optimisers that follow the gradient."""

    def values_and_gradient(
        self, starts: Any, twists: Float[Tensor, "batch 6"]
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch 6"]]:
        """Return the values, and the derivative of each value with respect to its own twist."""


@dataclass(frozen=True, slots=True)
class AutogradProblem:
    """A `GradientProblem` made from a `ValueProblem` that torch can differentiate."""

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
    """The best points evaluated near each start, never worse than the start itself.

    `converged` is true if the optimiser's own tolerance ended the search, and `reasons` are what ended it.
    """

    twists: Float[Tensor, "batch 6"]
    values: Float[Tensor, "batch"]
    converged: Bool[Tensor, "batch"]
    reasons: tuple[str, ...]
    evaluations: Int[Tensor, "batch"]


class AbstractOptimiser(ABC, Generic[ProblemT]):
    """An optimiser for problems of type `ProblemT`, deterministic for given settings and problem.

    Final subclasses are the entries of `OPTIMISERS`: frozen dataclasses whose fields are their settings.
    """

    @abstractmethod
    def minimise(self, problem: ProblemT, starts: Any) -> Minima:
        """Search near every start of the batch; the searches are independent of each other."""
