"""Local searches without gradients that look at one point at a time, inside a box about the start: Powell and BOBYQA.

Both work in units of the box, in which a millimetre and a radian are alike, and both come from libraries that call back: a
`Probe` is what they call.
Sources: Powell, "An efficient method for finding the minimum of a function of several variables without calculating
derivatives", The Computer Journal 7(2), 1964 (scipy's); Powell, "The BOBYQA algorithm for bound constrained optimization
without derivatives", report NA06, Cambridge 2009 (NLopt's). xReg ends with BOBYQA in a box of 5, 5, 10 mm and 2.5 degrees.
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
from fluoro_reg.optimisers.problem import WORST, AbstractOptimiser, Minima, SixNumbers, ValueProblem

BOX: SixNumbers = (5.0, 5.0, 10.0, math.radians(2.5), math.radians(2.5), math.radians(2.5))


@dataclass(slots=True)
class Probe:
    """The values about one start as a function of points in units of the box; remembers the best."""

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
        return value if math.isfinite(value) else WORST


@dataclass(frozen=True, slots=True)
class Powell(AbstractOptimiser[ValueProblem]):
    """Line searches along directions that become conjugate."""

    box: SixNumbers = option(BOX, "half the sides of the box: three mm, three rad", minimum=1e-9)
    evaluations: int = option(600, "at most so many, give or take a line search", minimum=1)
    step_tolerance: float = option(1e-3, "step at which to stop, as a share of the box", minimum=0.0)
    value_tolerance: float = option(1e-5, "share of the value by which a round must improve on it", minimum=0.0)

    def minimise(self, problem: ValueProblem, starts: Any) -> Minima:
        return _one_by_one(problem, starts, self.box, self._search)

    def _search(self, probe: Probe) -> tuple[bool, str]:
        from scipy.optimize import minimize  # a third of a second, for which nobody else need wait

        options = {"xtol": self.step_tolerance, "ftol": self.value_tolerance, "maxfev": self.evaluations}
        found = minimize(probe, np.zeros(6), method="Powell", bounds=[(-1.0, 1.0)] * 6, options=options)
        ends = {0: "steps and values change less than their tolerance", 1: "all evaluations are spent"}
        return bool(found.success), ends.get(found.status, str(found.message))


@dataclass(frozen=True, slots=True)
class BOBYQA(AbstractOptimiser[ValueProblem]):
    """Steps to the minimum of a quadratic through the last points, within a radius that shrinks."""

    box: SixNumbers = option(BOX, "half the sides of the box: three mm, three rad", minimum=1e-9)
    first_step: float = option(0.25, "first radius, as a share of the box", minimum=1e-6, maximum=1.0)
    evaluations: int = option(300, "at most so many", minimum=1)
    step_tolerance: float = option(1e-3, "radius at which to stop, as a share of the box", minimum=0.0)

    def minimise(self, problem: ValueProblem, starts: Any) -> Minima:
        return _one_by_one(problem, starts, self.box, self._search)

    def _search(self, probe: Probe) -> tuple[bool, str]:
        import nlopt  # likewise

        search = nlopt.opt(nlopt.LN_BOBYQA, 6)
        search.set_min_objective(lambda point, _: probe(point))
        search.set_lower_bounds([-1.0] * 6)
        search.set_upper_bounds([1.0] * 6)
        search.set_initial_step(self.first_step)
        search.set_xtol_abs(self.step_tolerance)
        search.set_maxeval(self.evaluations)
        try:
            search.optimize(np.zeros(6))
        except nlopt.RoundoffLimited:
            return False, "rounding errors hide any further progress"
        ended = search.last_optimize_result()
        small = "the radius is smaller than its tolerance"
        ends = {nlopt.SUCCESS: small, nlopt.XTOL_REACHED: small, nlopt.MAXEVAL_REACHED: "all evaluations are spent"}
        return ended in (nlopt.SUCCESS, nlopt.XTOL_REACHED), ends.get(ended, f"NLopt stopped with code {ended}")


def _one_by_one(problem: ValueProblem, starts: Any, box: SixNumbers, search: Callable[[Probe], tuple[bool, str]]) -> Minima:
    unit = torch.tensor(box, dtype=torch.float64)
    probes = [Probe(problem, take(starts, torch.tensor([row])), unit) for row in range(size(starts))]
    ends = [_unless_at_the_edge(probe, *search(probe)) for probe in probes]
    converged, reasons = zip(*ends, strict=True)
    values = torch.tensor([probe.value for probe in probes], dtype=torch.float64)
    return Minima(
        torch.stack([probe.twist for probe in probes]),
        values,
        torch.tensor(converged) & torch.isfinite(values),
        reasons,
        torch.tensor([probe.evaluations for probe in probes]),
    )


def _unless_at_the_edge(probe: Probe, converged: bool, reason: str) -> tuple[bool, str]:
    """A best point on a face of the box is where the search was stopped: the minimum lies beyond."""
    if converged and bool((probe.twist.abs() >= (1 - 1e-6) * probe.box).any()):
        return False, "the best point lies at the edge of the box"
    return converged, reason
