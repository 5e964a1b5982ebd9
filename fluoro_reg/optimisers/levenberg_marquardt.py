"""Levenberg-Marquardt for a batch of starts in parallel.

One evaluation per iteration serves all starts that have not converged. The problem provides evaluations (`retract`, the
expensive part) and what follows from them (`linearise`, `cost`); the optimiser depends on neither images nor poses. Weights and
masks belong to the linearisation. The cost of a trial is computed with the weights of the point that it started from, so that a
moving mask cannot be mistaken for progress.

Gauss-Newton ignores the residuals that remain at the minimum, which are large for an X-ray that holds more than the CT. For
standardised images of correlation r, `z . z = 1` gives `z . d2z = -dz . dz`, so the cost curves only r times as much as
Gauss-Newton assumes, and robust weights lower that further. Plain steps are then too short, and tens of them are needed. Every
trial shows the true curvature along its step, and the next step is stretched by its inverse.

Source: Marquardt 1963 (damping by the Hessian's diagonal, which makes units irrelevant); Nocedal & Wright, "Numerical
Optimization", section 10.3 and, for damping by the ratio of actual and predicted decrease, algorithm 4.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fluoro_reg.arrays import arrays_of
from fluoro_reg.config import option
from fluoro_reg.optimisers.batch import BatchT, put, take, where
from fluoro_reg.optimisers.normal_equations import NormalEquations
from fluoro_reg.optimisers.step_kernels import damped_steps, limit_steps, update_damping, update_stretch

EvaluationT = TypeVar("EvaluationT")  # an evaluation of a batch: the points and what was computed there
NormalEquationsT = TypeVar("NormalEquationsT", bound=NormalEquations)  # the normal equations of a batch


@runtime_checkable
class LeastSquaresProblem(Protocol[EvaluationT, NormalEquationsT]):
    """A problem for Levenberg-Marquardt.

    Both type variables are batches in the sense of `fluoro_reg.optimisers.batch`.
    """

    def retract(self, at: EvaluationT, step: Float[Tensor, "batch parameters"]) -> EvaluationT:
        """Return the evaluated points a step away, which is the expensive part."""

    def linearise(self, at: EvaluationT) -> NormalEquationsT:
        """Return cost, gradient and Hessian, with weights that belong to these points."""

    def cost(self, trial: EvaluationT, reference: NormalEquationsT) -> Float[Tensor, "batch"]:
        """Return the cost of the trial with the weights of the reference."""


@dataclass(frozen=True, slots=True)
class LevenbergMarquardtState(Generic[EvaluationT, NormalEquationsT]):
    """What one round of `LevenbergMarquardt` leaves to the next: a batch."""

    at: EvaluationT
    equations: NormalEquationsT
    damping: Float[Tensor, "batch"]
    stretch: Float[Tensor, "batch"]
    converged: Bool[Tensor, "batch"]


@dataclass(frozen=True, slots=True)
class LevenbergMarquardt:
    """The optimiser and its settings.

    Steps are limited to `largest_step` (mm, rad). A start has converged when the predicted decrease of a step is less than the
    fraction `tolerance` of its cost. That criterion has no unit, and directions that the data leave undetermined cannot delay
    it.
    """

    iterations: int = option(20, "maximum number of steps", minimum=1, maximum=1000)
    damping: float = option(1e-2, "damping of the first step", minimum=0.0)
    easing: float = option(5.0, "divisor of the damping after a good step", minimum=1.0)
    tightening: float = option(4.0, "factor on the damping after a rejected step", minimum=1.0)
    trusted_gain: float = option(
        0.0,
        "a step is good if it lowers the cost by more than this fraction of the prediction",
        minimum=0.0,
        maximum=1.0,
    )
    maximum_stretch: float = option(
        4.0, "longest step as a multiple of Gauss-Newton's, where the cost curves less than it assumes; 1 is never", minimum=1.0
    )
    largest_step: tuple[float, float] = option((12.0, 0.14), "longest step: mm, rad", minimum=1e-9)
    tolerance: float = option(2e-5, "predicted decrease at which to stop, as a fraction of the cost", minimum=0.0)

    def minimise(
        self,
        problem: LeastSquaresProblem[EvaluationT, NormalEquationsT],
        start: EvaluationT,
        is_hopeless: Callable[[EvaluationT, NormalEquationsT], Bool[Tensor, "batch"]] | None = None,
        judged_after: int = 0,
    ) -> tuple[EvaluationT, NormalEquationsT, Bool[Tensor, "batch"]]:
        """Return the best points found, their normal equations, and which of them met the tolerance.

        After `judged_after` steps, starts for which `is_hopeless` is true stay where they are and do not count as converged.
        """
        at, equations = start, problem.linearise(start)
        batch = equations.cost.shape[0]
        damping, stretch = np.full(batch, self.damping), np.ones(batch)
        converged, hopeless = np.zeros(batch, np.bool_), np.zeros(batch, np.bool_)
        for number in range(self.iterations):
            if number == judged_after and is_hopeless is not None and batch > 1:
                hopeless = is_hopeless(at, equations).numpy()
            chosen = np.flatnonzero(~(converged | hopeless))
            if not chosen.size:
                break
            rows = torch.from_numpy(chosen)
            current = _some(equations, rows, batch)
            before = torch.from_numpy(damping[chosen]), torch.from_numpy(stretch[chosen])
            step, solved = self._step(current, before[0])
            trial_step = self._limited(before[1][:, None] * step)
            trial = problem.retract(_some(at, rows, batch), trial_step)
            cost = problem.cost(trial, current)
            accepted = np.flatnonzero((cost < current.cost).numpy())
            if accepted.size:
                accepted_trial, changed = _some(trial, torch.from_numpy(accepted), len(rows)), rows[accepted]
                at = _replaced(at, changed, accepted_trial, batch)
                equations = _replaced(equations, changed, problem.linearise(accepted_trial), batch)
            damping[chosen] = self._update_damping(before[0], current, trial_step, cost).numpy()
            stretch[chosen] = self._update_stretch(before[1], current, trial_step, cost).numpy()
            predicted_decrease, here = -(step * current.gradient.double()).sum(-1).numpy(), current.cost.numpy()
            converged[chosen] = solved.numpy() & np.isfinite(here) & (predicted_decrease <= self.tolerance * here)
        return at, equations, torch.from_numpy(converged)

    def minimise_unrolled(
        self,
        problem: LeastSquaresProblem[EvaluationT, NormalEquationsT],
        start: EvaluationT,
        damping: Float[Tensor, "batch"] | None = None,
    ) -> tuple[EvaluationT, NormalEquationsT, Bool[Tensor, "batch"]]:
        """Do what `minimise` does without a judge, as a fixed sequence of tensor operations: all iterations, without branches.

        A CUDA graph can capture it. It evaluates more than `minimise` does, with the same result. If the problem is
        differentiable with respect to its own parameters, so are the points found; they are also differentiable with respect to
        the first `damping` (float64), if given. Which steps are accepted and when a start has converged are treated as
        constants, so with a tolerance above 0 later iterations may contribute nothing.
        """
        state = self.begin(problem, start, damping)
        for _ in range(self.iterations):
            state = self.round(problem, state)
        return state.at, state.equations, state.converged

    def begin(
        self,
        problem: LeastSquaresProblem[EvaluationT, NormalEquationsT],
        start: EvaluationT,
        damping: Float[Tensor, "batch"] | None = None,
    ) -> "LevenbergMarquardtState[EvaluationT, NormalEquationsT]":
        """Return the state before the first `round`."""
        equations = problem.linearise(start)
        damping = torch.full_like(equations.cost, self.damping, dtype=torch.float64) if damping is None else damping
        converged = torch.zeros_like(equations.cost, dtype=torch.bool)
        return LevenbergMarquardtState(start, equations, damping, torch.ones_like(damping), converged)

    def round(
        self,
        problem: LeastSquaresProblem[EvaluationT, NormalEquationsT],
        state: "LevenbergMarquardtState[EvaluationT, NormalEquationsT]",
    ) -> "LevenbergMarquardtState[EvaluationT, NormalEquationsT]":
        """Take one step of every start that has not converged, without a branch."""
        at, equations, damping, stretch, converged = state.at, state.equations, state.damping, state.stretch, state.converged
        step, solved = self._step(equations, damping)
        trial_step = self._limited(stretch[:, None] * step)
        trial = problem.retract(at, trial_step)
        cost = problem.cost(trial, equations)
        predicted_decrease = -(step * equations.gradient.double()).sum(-1)
        met = solved & torch.isfinite(equations.cost) & (predicted_decrease <= self.tolerance * equations.cost)
        accepted = (cost < equations.cost) & ~converged
        return LevenbergMarquardtState(
            where(accepted, trial, at),
            where(accepted, problem.linearise(trial), equations),
            self._update_damping(damping, equations, trial_step, cost),
            self._update_stretch(stretch, equations, trial_step, cost),
            converged | met,
        )

    def _update_damping(
        self,
        damping: Float[Tensor, "batch"],
        equations: NormalEquations,
        step: Float[Tensor, "batch parameters"],
        cost: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch"]:
        """Return the damping after a step to a point whose cost is `cost`."""
        plain = _arrays_of(equations.cost, equations.gradient, equations.hessian, step, cost, damping)
        if plain is not None:
            updated = np.array(plain[-1])
            update_damping(*plain[:-1], (self.easing, self.tightening, self.trusted_gain), updated)
            return torch.from_numpy(updated)
        improved = cost < equations.cost
        lowered, raised = (damping / self.easing).clamp_min(1e-6), damping * self.tightening
        if self.trusted_gain == 0:
            return torch.where(improved, lowered, raised)
        hessian, gradient = equations.hessian.double(), equations.gradient.double()
        predicted_decrease = -(step * (2 * gradient + (hessian @ step[..., None]).squeeze(-1))).sum(-1)
        good = equations.cost - cost > self.trusted_gain * predicted_decrease
        return torch.where(improved, torch.where(good, lowered, damping), raised)

    def _update_stretch(
        self,
        stretch: Float[Tensor, "batch"],
        equations: NormalEquations,
        step: Float[Tensor, "batch parameters"],
        cost: Float[Tensor, "batch"],
    ) -> Float[Tensor, "batch"]:
        """Return the stretch after a step to a point whose cost is `cost`; it at most doubles, and a failed step ends it."""
        plain = _arrays_of(equations.cost, equations.gradient, equations.hessian, step, cost, stretch)
        if plain is not None:
            updated = np.array(plain[-1])
            update_stretch(*plain[:-1], self.maximum_stretch, updated)
            return torch.from_numpy(updated)
        hessian, gradient = equations.hessian.double(), equations.gradient.double()
        curvature = cost - equations.cost - 2 * (step * gradient).sum(-1)
        assumed = (step * (hessian @ step[..., None]).squeeze(-1)).sum(-1)
        wanted = assumed / torch.maximum(curvature, assumed / self.maximum_stretch).clamp_min(1e-30)
        longer = torch.minimum(wanted, 2 * stretch).clamp(1.0, self.maximum_stretch)
        return torch.where(cost < equations.cost, longer, torch.ones_like(stretch))

    def _step(
        self, equations: NormalEquations, damping: Float[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch parameters"], Bool[Tensor, "batch"]]:
        """Return the damped step, and whether its equations have a solution.

        Without a solution the step is zero, which must not be mistaken for convergence.
        """
        plain = _arrays_of(equations.hessian, equations.gradient, damping)
        if plain is not None:
            steps, solutions = np.empty(equations.gradient.shape), np.empty(len(damping), np.bool_)
            damped_steps(*plain, *self.largest_step, steps, solutions)
            return torch.from_numpy(steps), torch.from_numpy(solutions)
        hessian, gradient = equations.hessian.double(), equations.gradient.double()
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        floor = 1e-9 * diagonal.amax(-1, keepdim=True) + 1e-20
        damped = hessian + torch.diag_embed(damping[:, None] * diagonal + floor)
        step = solve_positive_definite(damped, -gradient)
        solved = torch.isfinite(step).all(dim=-1)
        step = torch.where(solved[:, None], step, torch.zeros_like(gradient))
        return self._limited(step), solved

    def _limited(self, step: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch parameters"]:
        """Return a step shortened to the longest that is allowed, of every body on its own."""
        plain = _arrays_of(step)
        if plain is not None:
            limited = np.array(plain[0])
            limit_steps(limited, *self.largest_step)
            return torch.from_numpy(limited)
        limit_mm, limit_rad = self.largest_step
        twists = step.unflatten(-1, (-1, 6))
        excess = torch.maximum(twists[..., :3].norm(dim=-1) / limit_mm, twists[..., 3:].norm(dim=-1) / limit_rad)
        return (twists / excess.clamp_min(1.0)[..., None]).flatten(1)


def _some(everything: BatchT, rows: Int[Tensor, "m"], batch: int) -> BatchT:
    """The elements `rows`, in ascending order, of a batch of a given size; without a copy if they are all."""
    return everything if len(rows) == batch else take(everything, rows)


def _replaced(everything: BatchT, rows: Int[Tensor, "m"], new: BatchT, batch: int) -> BatchT:
    return new if len(rows) == batch else put(everything, rows, new)


def _arrays_of(*tensors: Tensor) -> tuple[np.ndarray, ...] | None:
    """`arrays_of`, contiguous, so that kernels are compiled for one layout only."""
    plain = arrays_of(*tensors)
    return None if plain is None else tuple(np.ascontiguousarray(array) for array in plain)


def solve_positive_definite(
    matrix: Float[Tensor, "batch n n"], right_side: Float[Tensor, "batch n"]
) -> Float[Tensor, "batch n"]:
    """Solve small symmetric positive definite systems by Gauss-Jordan elimination, for which they need no pivots.

    The result is NaN or infinite where there is no solution. All operations are element-wise, because LAPACK's solvers
    synchronise with a GPU and cannot be captured in a CUDA graph. Without a gradient, NumPy does the same faster on the CPU.
    """
    plain = arrays_of(matrix, right_side)
    if plain is not None:
        with np.errstate(all="ignore"):
            array = np.concatenate([plain[0], plain[1][..., None]], axis=-1)
            return torch.from_numpy(_eliminated(array, np.eye(array.shape[1])))
    rows = torch.cat([matrix, right_side[..., None]], dim=-1)
    return _eliminated(rows, torch.eye(right_side.shape[-1], dtype=rows.dtype, device=rows.device))


def _eliminated(rows: Any, identity: Any) -> Any:
    """The solution from the rows [matrix, right side], as tensors or arrays."""
    for k in range(len(identity)):
        pivot_row = rows[:, k : k + 1] / rows[:, k : k + 1, k : k + 1]
        rows = rows - (rows[:, :, k : k + 1] - identity[:, k : k + 1]) * pivot_row
    return rows[..., -1]
