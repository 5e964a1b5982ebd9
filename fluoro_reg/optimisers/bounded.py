"""Derivative-free local searches inside a box about the start, one point at a time: Powell and BOBYQA.

Both work in units of the box, so that millimetres and radians are comparable. Both are library functions that call back a
`BoxObjective`.

Sources: Powell, "An efficient method for finding the minimum of a function of several variables without calculating
derivatives", The Computer Journal 7(2), 1964 (scipy's); Powell, "The BOBYQA algorithm for bound constrained optimization
without derivatives", report NA06, Cambridge 2009 (NLopt's). xReg's last step is BOBYQA in a box of 5, 5, 10 mm and 2.5 degrees.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.optimisers.batch import size, take
from fluoro_reg.optimisers.problem import PENALTY_VALUE, AbstractOptimiser, Minima, TwistComponents, ValueProblem

BOX: TwistComponents = (5.0, 5.0, 10.0, math.radians(2.5), math.radians(2.5), math.radians(2.5))


@dataclass(slots=True)
class BoxObjective:
    """The values near one start as a function of points in units of the box; it keeps the best point."""

    problem: ValueProblem
    start: Any
    box: Float[Tensor, "6"]
    value: float = math.inf
    twist: Float[Tensor, "6"] = field(default_factory=lambda: torch.zeros(6, dtype=torch.float64))
    evaluations: int = 0

    def __call__(self, point: np.ndarray) -> float:
        twist = torch.from_numpy(np.clip(point, -1.0, 1.0)) * self.box
        value = float(self.problem.values(self.start, twist[None])[0])
        self.evaluations += 1
        if value < self.value:
            self.value, self.twist = value, twist
        return value if math.isfinite(value) else PENALTY_VALUE


@dataclass(frozen=True, slots=True)
class Powell(AbstractOptimiser[ValueProblem]):
    """Powell's method: line searches along directions that become conjugate."""

    box: TwistComponents = option(BOX, "half sides of the box: three mm, three rad", minimum=1e-9)
    evaluations: int = option(600, "maximum number of evaluations, give or take a line search", minimum=1)
    step_tolerance: float = option(1e-3, "step at which to stop, as a fraction of the box", minimum=0.0)
    value_tolerance: float = option(1e-5, "fraction of the value by which a round must lower it", minimum=0.0)

    def minimise(self, problem: ValueProblem, starts: Any) -> Minima:
        return _minimise_each(problem, starts, self.box, self._search)

    def _search(self, objective: BoxObjective) -> tuple[bool, str]:
        from scipy.optimize import minimize  # imported here, as it takes a third of a second

        options = {"xtol": self.step_tolerance, "ftol": self.value_tolerance, "maxfev": self.evaluations}
        result = minimize(objective, np.zeros(6), method="Powell", bounds=[(-1.0, 1.0)] * 6, options=options)
        outcomes = {
            0: "steps and values changed by less than their tolerances",
            1: "the maximum number of evaluations was reached",
        }
        return bool(result.success), outcomes.get(result.status, str(result.message))


@dataclass(frozen=True, slots=True)
class BOBYQA(AbstractOptimiser[ValueProblem]):
    """Steps to the minimum of a quadratic model of the last points, within a trust radius that shrinks."""

    box: TwistComponents = option(BOX, "half sides of the box: three mm, three rad", minimum=1e-9)
    first_step: float = option(0.25, "initial trust radius, as a fraction of the box", minimum=1e-6, maximum=1.0)
    evaluations: int = option(300, "maximum number of evaluations", minimum=1)
    step_tolerance: float = option(1e-3, "trust radius at which to stop, as a fraction of the box", minimum=0.0)

    def minimise(self, problem: ValueProblem, starts: Any) -> Minima:
        return _minimise_each(problem, starts, self.box, self._search)

    def _search(self, objective: BoxObjective) -> tuple[bool, str]:
        import nlopt  # imported here, as only this method needs it

        search = nlopt.opt(nlopt.LN_BOBYQA, 6)
        search.set_min_objective(lambda point, _: objective(point))
        search.set_lower_bounds([-1.0] * 6)
        search.set_upper_bounds([1.0] * 6)
        search.set_initial_step(self.first_step)
        search.set_xtol_abs(self.step_tolerance)
        search.set_maxeval(self.evaluations)
        try:
            search.optimize(np.zeros(6))
        except nlopt.RoundoffLimited:
            return False, "rounding errors prevent further progress"
        result_code = search.last_optimize_result()
        radius_reason = "the trust radius is below its tolerance"
        outcomes = {
            nlopt.SUCCESS: radius_reason,
            nlopt.XTOL_REACHED: radius_reason,
            nlopt.MAXEVAL_REACHED: "the maximum number of evaluations was reached",
        }
        converged = result_code in (nlopt.SUCCESS, nlopt.XTOL_REACHED)
        return converged, outcomes.get(result_code, f"NLopt stopped with code {result_code}")


def _minimise_each(
    problem: ValueProblem, starts: Any, box: TwistComponents, search: Callable[[BoxObjective], tuple[bool, str]]
) -> Minima:
    half_sizes = torch.tensor(box, dtype=torch.float64)
    objectives = [BoxObjective(problem, take(starts, torch.tensor([row])), half_sizes) for row in range(size(starts))]
    outcomes = [_reject_box_boundary(objective, *search(objective)) for objective in objectives]
    converged, reasons = zip(*outcomes, strict=True)
    values = torch.tensor([objective.value for objective in objectives], dtype=torch.float64)
    return Minima(
        torch.stack([objective.twist for objective in objectives]),
        values,
        torch.tensor(converged) & torch.isfinite(values),
        reasons,
        torch.tensor([objective.evaluations for objective in objectives]),
    )


def _reject_box_boundary(objective: BoxObjective, converged: bool, reason: str) -> tuple[bool, str]:
    """Report no convergence if the best point is on the boundary of the box, as the minimum is then outside."""
    if converged and bool((objective.twist.abs() >= (1 - 1e-6) * objective.box).any()):
        return False, "the best point is on the boundary of the box"
    return converged, reason
