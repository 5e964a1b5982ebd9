"""Levenberg-Marquardt over a batch of starts in lockstep: one evaluation a round serves every start that still moves.

The problem says what is expensive (`evaluate`), what follows from it (`linearise`, `cost`) and how a step is taken (`retract`);
nothing here knows images or poses. Weights and masks belong to the linearisation: a trial is judged under the weights of the
point it started from, so that moving the mask can never pass for progress.
Source: Marquardt 1963 (damping by the Hessian's diagonal, so that units do not matter); Nocedal & Wright, "Numerical
Optimization", section 10.3 and, for damping by how much of what a step promised came true, algorithm 4.1.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.optimisers.batch import put, take, where
from fluoro_reg.optimisers.normal_equations import NormalEquations

E = TypeVar("E")  # an evaluation of a batch: the points and whatever was computed there
L = TypeVar("L", bound=NormalEquations)  # a linearisation of a batch


@runtime_checkable
class LeastSquaresProblem(Protocol[E, L]):
    """What Levenberg-Marquardt needs of a problem; E and L are batches in the sense of `fluoro_reg.optimisers.batch`."""

    def retract(self, at: E, step: Float[Tensor, "batch 6"]) -> E:
        """The points a step away, evaluated (the expensive part)."""

    def linearise(self, at: E) -> L:
        """Cost, gradient and Hessian, under weights of its own."""

    def cost(self, trial: E, reference: L) -> Float[Tensor, "batch"]:
        """The trial's cost under the reference's weights."""


@dataclass(frozen=True, slots=True)
class LevenbergMarquardt:
    """Settings. Steps are limited to `largest_step` (mm, rad). A start has converged when a step promises to lower its cost by
    less than the share `tolerance`: a number that needs no unit, and that a direction which the data leave open cannot hold up.
    """

    iterations: int = option(20, "at most this many steps", minimum=1, maximum=1000)
    damping: float = option(1e-2, "damping of the first step", minimum=0.0)
    easing: float = option(5.0, "the damping is divided by this after a good step", minimum=1.0)
    tightening: float = option(4.0, "the damping is multiplied by this after a step that is not taken", minimum=1.0)
    trusted_gain: float = option(
        0.0, "a step is good that lowers the cost by more than this share of what it promised", minimum=0.0, maximum=1.0
    )
    largest_step: tuple[float, float] = option((12.0, 0.14), "longest step: mm, rad", minimum=1e-9)
    tolerance: float = option(2e-5, "share of its cost by which a step must promise to lower it", minimum=0.0)

    def minimise(self, problem: LeastSquaresProblem[E, L], start: E) -> tuple[E, L, Bool[Tensor, "batch"]]:
        """The best points found, their linearisations, and which of them met the tolerance."""
        at, here = start, problem.linearise(start)
        batch = here.cost.shape[0]
        damping = torch.full((batch,), self.damping, dtype=torch.float64)
        converged = torch.zeros(batch, dtype=torch.bool)
        for _ in range(self.iterations):
            rows = (~converged).nonzero().squeeze(-1)
            if rows.numel() == 0:
                break
            current = take(here, rows)
            step, solved = self._step(current, damping[rows])
            trial = problem.retract(take(at, rows), step)
            cost = problem.cost(trial, current)
            better = cost < current.cost
            won = better.nonzero().squeeze(-1)
            if won.numel():
                gained = take(trial, won)
                at = put(at, rows[won], gained)
                here = put(here, rows[won], problem.linearise(gained))
            damping[rows] = self._redamped(damping[rows], current, step, cost)
            promise = -(step * current.gradient.double()).sum(-1)
            converged[rows] = solved & torch.isfinite(current.cost) & (promise <= self.tolerance * current.cost)
        return at, here, converged

    def rounds(
        self, problem: LeastSquaresProblem[E, L], start: E, damping: Float[Tensor, "batch"] | None = None
    ) -> tuple[E, L, Bool[Tensor, "batch"]]:
        """`minimise` as a fixed sequence of tensor operations: all rounds, for all starts, no decision of Python's.

        It evaluates what `minimise` leaves out, and is what a CUDA graph can hold; the answer is the same. Where the problem is
        differentiable to its own parameters, so are the points found, and to the first `damping` (float64) if that is given:
        which steps are taken and when a start has converged counts as given, so with a tolerance above 0 later rounds may have
        no say.
        """
        at, here = start, problem.linearise(start)
        damping = torch.full_like(here.cost, self.damping, dtype=torch.float64) if damping is None else damping
        converged = torch.zeros_like(here.cost, dtype=torch.bool)
        for _ in range(self.iterations):
            step, solved = self._step(here, damping)
            trial = problem.retract(at, step)
            cost = problem.cost(trial, here)
            better = cost < here.cost
            promise = -(step * here.gradient.double()).sum(-1)
            done = converged | (solved & torch.isfinite(here.cost) & (promise <= self.tolerance * here.cost))
            won = better & ~converged
            damping = self._redamped(damping, here, step, cost)
            at, here = where(won, trial, at), where(won, problem.linearise(trial), here)
            converged = done
        return at, here, converged

    def _redamped(
        self,
        damping: Float[Tensor, "batch"],
        here: NormalEquations,
        step: Float[Tensor, "batch 6"],
        cost: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch"]:
        """The damping after a step to where the cost is `cost`."""
        better = cost < here.cost
        eased, tightened = (damping / self.easing).clamp_min(1e-6), damping * self.tightening
        if self.trusted_gain == 0:
            return torch.where(better, eased, tightened)
        hessian, gradient = here.hessian.double(), here.gradient.double()
        promised = -(step * (2 * gradient + (hessian @ step[..., None]).squeeze(-1))).sum(-1)
        good = here.cost - cost > self.trusted_gain * promised
        return torch.where(better, torch.where(good, eased, damping), tightened)

    def _step(
        self, here: NormalEquations, damping: Float[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch 6"], Bool[Tensor, "batch"]]:
        """The damped step, and whether its equations have a solution: a zero step for want of one is no convergence."""
        hessian, gradient = here.hessian.double(), here.gradient.double()
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        floor = 1e-9 * diagonal.amax(-1, keepdim=True) + 1e-20
        damped = hessian + torch.diag_embed(damping[:, None] * diagonal + floor)
        step = eliminated(damped, -gradient)
        solved = torch.isfinite(step).all(dim=-1)
        step = torch.where(solved[:, None], step, torch.zeros_like(gradient))
        furthest_mm, furthest_rad = self.largest_step
        excess = torch.maximum(step[:, :3].norm(dim=-1) / furthest_mm, step[:, 3:].norm(dim=-1) / furthest_rad)
        return step / excess.clamp_min(1.0)[:, None], solved


def eliminated(matrix: Float[Tensor, "batch n n"], right: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """The solution of small symmetric positive definite systems, by Gauss-Jordan elimination, which needs no pivots there.

    NaN or infinite where there is none. Only element-wise operations: LAPACK's solvers on a GPU wait for it, and that no CUDA
    graph can hold.
    """
    rows = torch.cat([matrix, right[..., None]], dim=-1)
    identity = torch.eye(right.shape[-1], dtype=rows.dtype, device=rows.device)
    for k in range(right.shape[-1]):
        pivot_row = rows[:, k : k + 1] / rows[:, k : k + 1, k : k + 1]
        rows = rows - (rows[:, :, k : k + 1] - identity[:, k : k + 1]) * pivot_row
    return rows[..., -1]
