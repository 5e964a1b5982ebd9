"""CMA-ES: a Gaussian search distribution that adapts its shape to the best of its points.

It needs no gradient and is not misled by small local minima, but needs many evaluations. A generation is therefore evaluated in
one call, together with those of all other starts. All computation is in units of `sigma`, so that millimetres and radians are
comparable. Source: Hansen, "The CMA evolution strategy: a tutorial", arXiv 1604.00772; the library is Hansen's pycma.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.optimisers.batch import size, take
from fluoro_reg.optimisers.problem import PENALTY_VALUE, AbstractOptimiser, Minima, TwistComponents, ValueProblem

CONVERGENCE_REASONS = {
    "tolx": "the search distribution is smaller than its tolerance",
    "tolfun": "the values differ by less than their tolerance",
}
LIMIT_REASONS = {"maxiter": "the maximum number of generations was reached"}


@dataclass(frozen=True, slots=True)
class CMAES(AbstractOptimiser[ValueProblem]):
    """CMA-ES. The first generation has standard deviation `sigma` along each of the six axes."""

    sigma: TwistComponents = option(
        (10.0, 10.0, 20.0, 0.1, 0.1, 0.1), "standard deviation of the first generation: three mm, three rad", minimum=1e-9
    )
    population: int = option(50, "points per generation", minimum=4, maximum=100_000)
    generations: int = option(100, "maximum number of generations", minimum=1, maximum=100_000)
    step_tolerance: float = option(
        5e-3, "size of the search distribution at which to stop, as a fraction of sigma", minimum=0.0
    )
    value_tolerance: float = option(1e-5, "difference of values at which to stop", minimum=0.0)
    seed: int = option(0, "seed of the random values", minimum=0)

    def minimise(self, problem: ValueProblem, starts: Any) -> Minima:
        n = size(starts)
        sigma = torch.tensor(self.sigma, dtype=torch.float64)
        strategies = [self._make_strategy(start) for start in range(n)]
        twists = torch.zeros(n, 6, dtype=torch.float64)
        values = problem.values(starts, twists).double().nan_to_num(nan=math.inf, posinf=math.inf)
        evaluations = torch.ones(n, dtype=torch.long)
        active = list(range(n))
        while active:
            candidates = [np.stack(strategies[start].ask()) for start in active]
            points = torch.from_numpy(np.stack(candidates)) * sigma
            rows = torch.tensor(active).repeat_interleave(self.population)
            candidate_values = (
                problem.values(take(starts, rows), points.flatten(0, 1)).double().unflatten(0, (-1, self.population))
            )
            candidate_values = candidate_values.nan_to_num(nan=math.inf, posinf=math.inf)
            for start, scaled_points, start_points, start_values in zip(
                active, candidates, points, candidate_values, strict=True
            ):
                strategies[start].tell(list(scaled_points), start_values.clamp_max(PENALTY_VALUE).tolist())
                best = int(start_values.argmin())
                if start_values[best] < values[start]:
                    twists[start], values[start] = start_points[best], start_values[best]
            evaluations[active] += self.population
            active = [start for start in active if not strategies[start].stop()]
        return self._minima(strategies, twists, values, evaluations)

    def _make_strategy(self, start: int) -> Any:
        import cma  # imported here, as it takes a second and a half

        random = np.random.default_rng([self.seed, start])
        options = {
            "popsize": self.population,
            "maxiter": self.generations,
            "tolx": self.step_tolerance,
            "tolfun": self.value_tolerance,
            "randn": lambda *shape: random.standard_normal(shape),
            "seed": math.nan,  # leaves numpy's own generator alone
            "verbose": -10,
            "verb_log": 0,
        }
        return cma.CMAEvolutionStrategy([0.0] * 6, 1.0, options)

    def _minima(
        self, strategies: list[Any], twists: Float[Tensor, "batch 6"], values: Float[Tensor, "batch"], evaluations: Tensor
    ) -> Minima:
        stop_codes = [next(iter(strategy.stop())) for strategy in strategies]
        reasons = tuple({**CONVERGENCE_REASONS, **LIMIT_REASONS}.get(code, f"pycma stopped by '{code}'") for code in stop_codes)
        converged = torch.tensor([code in CONVERGENCE_REASONS for code in stop_codes]) & torch.isfinite(values)
        return Minima(twists, values, converged, reasons, evaluations)
