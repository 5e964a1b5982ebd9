"""CMA-ES: a Gaussian cloud of points that learns its shape from which of them are best.

It needs no gradient and is not misled by small local minima, at the price of many evaluations; so a generation is evaluated in
one call, the generations of all starts together. Everything happens in units of `sigma`, in which a millimetre and a radian
are alike. Source: Hansen, "The CMA evolution strategy: a tutorial", arXiv 1604.00772; the library is Hansen's pycma.
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
from fluoro_reg.optimisers.problem import WORST, AbstractOptimiser, Minima, SixNumbers, ValueProblem

CONVERGED = {"tolx": "the cloud is smaller than its tolerance", "tolfun": "the values differ by less than their tolerance"}
EXHAUSTED = {"maxiter": "all generations are spent"}


@dataclass(frozen=True, slots=True)
class CMAES(AbstractOptimiser[ValueProblem]):
    """The first generation has deviation `sigma` along each of the six axes."""

    sigma: SixNumbers = option(
        (10.0, 10.0, 20.0, 0.1, 0.1, 0.1), "deviation of the first generation: three mm, three rad", minimum=1e-9
    )
    population: int = option(50, "points a generation", minimum=4, maximum=100_000)
    generations: int = option(100, "at most so many", minimum=1, maximum=100_000)
    step_tolerance: float = option(5e-3, "size of the cloud at which to stop, as a share of sigma", minimum=0.0)
    value_tolerance: float = option(1e-5, "difference of values at which to stop", minimum=0.0)
    seed: int = option(0, "of the random numbers", minimum=0)

    def minimise(self, problem: ValueProblem, starts: Any) -> Minima:
        n = size(starts)
        sigma = torch.tensor(self.sigma, dtype=torch.float64)
        clouds = [self._cloud(start) for start in range(n)]
        twists = torch.zeros(n, 6, dtype=torch.float64)
        values = problem.values(starts, twists).double().nan_to_num(nan=math.inf, posinf=math.inf)
        evaluations = torch.ones(n, dtype=torch.long)
        alive = list(range(n))
        while alive:
            asked = [np.stack(clouds[start].ask()) for start in alive]
            points = torch.from_numpy(np.stack(asked)) * sigma
            rows = torch.tensor(alive).repeat_interleave(self.population)
            found = problem.values(take(starts, rows), points.flatten(0, 1)).double().unflatten(0, (-1, self.population))
            found = found.nan_to_num(nan=math.inf, posinf=math.inf)
            for start, units, its_points, its_values in zip(alive, asked, points, found, strict=True):
                clouds[start].tell(list(units), its_values.clamp_max(WORST).tolist())
                best = int(its_values.argmin())
                if its_values[best] < values[start]:
                    twists[start], values[start] = its_points[best], its_values[best]
            evaluations[alive] += self.population
            alive = [start for start in alive if not clouds[start].stop()]
        return self._minima(clouds, twists, values, evaluations)

    def _cloud(self, start: int) -> Any:
        import cma  # a second and a half, for its plots and statistics: only who asks for CMA-ES waits for it

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
        self, clouds: list[Any], twists: Float[Tensor, "batch 6"], values: Float[Tensor, "batch"], evaluations: Tensor
    ) -> Minima:
        ends = [next(iter(cloud.stop())) for cloud in clouds]
        reasons = tuple({**CONVERGED, **EXHAUSTED}.get(end, f"pycma stopped by '{end}'") for end in ends)
        converged = torch.tensor([end in CONVERGED for end in ends]) & torch.isfinite(values)
        return Minima(twists, values, converged, reasons, evaluations)
