"""Problems whose minima are known. A start is a point, and twists are differences from it, mm and rad."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

UNITS = torch.tensor([10.0, 10.0, 20.0, 0.1, 0.1, 0.1], dtype=torch.float64)  # the scale of each axis


@dataclass(frozen=True, slots=True)
class Points:
    x: Tensor


@dataclass(slots=True)
class Problem(ABC):
    """A function of (x - minimum) / `UNITS` that records the sizes of the batches it is evaluated for."""

    minimum: Tensor = field(default_factory=lambda: torch.tensor([1.5, -2.0, 4.0, 0.02, -0.03, 0.01], dtype=torch.float64))
    batches: list[int] = field(default_factory=list)

    def values(self, starts: Points, twists: Tensor) -> Tensor:
        self.batches.append(len(twists))
        return self.function((starts.x + twists - self.minimum) / UNITS)

    @abstractmethod
    def function(self, u: Tensor) -> Tensor: ...

    def distance(self, starts: Points, twists: Tensor) -> Tensor:
        """Return the distances from the minimum, in units."""
        return ((starts.x + twists - self.minimum) / UNITS).norm(dim=-1)


class Bowl(Problem):
    """A quadratic with a valley: axes are coupled, and one has ten times the weight of another."""

    def function(self, u: Tensor) -> Tensor:
        first = u + 0.5 * u.roll(1, dims=-1)
        return (first.square() * torch.linspace(1.0, 10.0, 6, dtype=u.dtype)).sum(-1)


class Banana(Problem):
    """Rosenbrock's curved valley, with its minimum moved to zero."""

    def function(self, u: Tensor) -> Tensor:
        y = u + 1
        return (100 * (y[..., 1:] - y[..., :-1] ** 2) ** 2 + (1 - y[..., :-1]) ** 2).sum(-1)


class EggBox(Problem):
    """Rastrigin's many small minima on a bowl."""

    def function(self, u: Tensor) -> Tensor:
        return (4 * u.square() + 1 - torch.cos(4 * math.pi * u)).sum(-1)


class PartlyUndefined(Bowl):
    """A bowl without a value on one side of the start, and with NaN on part of that side."""

    def function(self, u: Tensor) -> Tensor:
        values = super().function(u)
        values = torch.where(u[..., 0] < -0.3, torch.inf, values)
        return torch.where(u[..., 0] < -0.5, torch.nan, values)


class Undefined(Problem):
    """A function without a value anywhere."""

    def function(self, u: Tensor) -> Tensor:
        return torch.full(u.shape[:-1], torch.inf, dtype=u.dtype) + 0 * u.sum(-1)


def starts(n: int) -> Points:
    """Return the origin and random points near it."""
    g = torch.Generator().manual_seed(11)
    offsets = torch.rand(n, 6, generator=g, dtype=torch.float64) - 0.5
    offsets[0] = 0
    return Points(offsets * UNITS * 0.5)
