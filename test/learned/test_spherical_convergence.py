"""How many steps a spherical similarity needs: Levenberg-Marquardt against descents with the best of many rates."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from fluoro_reg.learned.metrics import SphericalMetric
from fluoro_reg.optimisers import AutogradProblem, GradientDescent, LevenbergMarquardt, NormalEquations, Schedule

UNITS = torch.tensor([10.0, 10.0, 50.0, 0.1, 0.1, 0.1], dtype=torch.float64)
CLOSE = 1e-3  # units
RATES = [2.0**k for k in range(-4, 6)]


@dataclass(frozen=True)
class Points:
    x: Tensor


@dataclass(frozen=True)
class Embedding:
    """A smooth embedding of six numbers as points of 32 spheres, with waves of amplitude `bend`; zero is the minimum."""

    bend: float
    matrices: Tensor = field(
        default_factory=lambda: torch.randn(2, 128, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    )

    def residuals(self, x: Tensor) -> Tensor:
        straight, wavy = self.matrices

        def embed(u: Tensor) -> Tensor:
            return 0.5 * u @ straight.T + self.bend * torch.sin(u @ wavy.T) + wavy.sum(-1)

        return SphericalMetric(point_size=4, factor=1.0).residuals(embed(x / UNITS), embed(torch.zeros_like(x)))

    def retract(self, at: Points, step: Tensor) -> Points:
        return Points(at.x + step)

    def linearise(self, at: Points) -> NormalEquations:
        r = self.residuals(at.x)
        jacobian = torch.func.vmap(torch.func.jacfwd(lambda x: self.residuals(x[None])[0]))(at.x)
        return NormalEquations(r.square().sum(-1), (jacobian.mT @ r[..., None]).squeeze(-1), jacobian.mT @ jacobian)

    def cost(self, trial: Points, reference: NormalEquations) -> Tensor:
        return self.values(trial, torch.zeros_like(trial.x))

    def values(self, starts: Points, twists: Tensor) -> Tensor:
        return self.residuals(starts.x + twists).square().sum(-1)


@pytest.mark.parametrize("bend", [0.0, 0.2])
def test_levenberg_marquardt_needs_a_tenth_of_the_steps_of_the_best_descent(bend):
    problem = Embedding(bend)
    starts = Points(UNITS * torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))

    def error(x: Tensor) -> float:
        return float((x / UNITS).norm(dim=-1).max())

    def by_lm(steps: int) -> float:
        optimiser = LevenbergMarquardt(steps, easing=3.0, trusted_gain=0.5, tolerance=0.0, largest_step=(100.0, 1.0))
        return error(optimiser.minimise(problem, starts)[0].x)

    def by_descent(rate: float, steps: int) -> float:
        rates = (rate * float(UNITS[0] ** 2), rate * float(UNITS[3] ** 2))
        optimiser = GradientDescent(rates, momentum=0.9, schedule=Schedule(steps=steps, patience=steps))
        return error(starts.x + optimiser.minimise(AutogradProblem(problem), starts).twists)

    needed = next(steps for steps in range(1, 9) if by_lm(steps) < CLOSE)
    assert needed <= 6
    assert min(by_descent(rate, 10 * needed) for rate in RATES) > CLOSE
