"""CMA-ES, Powell and BOBYQA: the properties that each is chosen for."""

import numpy as np
import pytest
import scipy.optimize
import torch
from helpers.optimiser_problems import UNITS, Banana, Bowl, EggBox, Points, starts

from fluoro_reg.optimisers import BOBYQA, CMAES, Powell

BOX = tuple(UNITS.tolist())


class Recorder:
    """Forward values and record the twists."""

    def __init__(self, values, recorded_twists):
        self.inner_values, self.recorded_twists = values, recorded_twists

    def values(self, starts, twists):
        self.recorded_twists.append(twists)
        return self.inner_values(starts, twists)


def test_a_generation_of_all_starts_is_one_call():
    problem = Bowl()
    minima = CMAES(population=30, generations=7).minimise(problem, starts(4))
    assert problem.batches == [4] + [4 * 30] * 7
    assert minima.evaluations.tolist() == [1 + 7 * 30] * 4


def test_cma_es_follows_a_curved_valley():
    problem, at = Banana(), starts(1)
    settings = CMAES(sigma=BOX, population=30, generations=400, step_tolerance=1e-6, value_tolerance=1e-12)
    minima = settings.minimise(problem, at)
    assert problem.distance(at, minima.twists).max() < 1e-3
    assert minima.converged.all()


def test_cma_es_leaves_small_minima_where_a_local_search_is_trapped():
    problem = EggBox()
    at = Points((problem.minimum + torch.tensor([1.1, -0.6, 0.9, 1.4, -1.2, 0.7], dtype=torch.float64) * UNITS)[None])
    best = CMAES(sigma=BOX, population=100, generations=200).minimise(problem, at)
    assert problem.distance(at, best.twists).max() < 1e-2
    local = scipy.optimize.minimize(
        lambda x: float(problem.values(at, torch.from_numpy(x)[None])[0]), np.zeros(6), method="BFGS"
    )
    assert problem.distance(at, torch.from_numpy(local.x)[None]).max() > 0.3


def test_different_seeds_give_different_searches():
    at = starts(1)
    twists = [CMAES(population=30, generations=20, seed=seed).minimise(Bowl(), at).twists for seed in (0, 1)]
    assert not torch.equal(*twists)


def test_equal_starts_are_searched_independently():
    at = Points(torch.zeros(2, 6, dtype=torch.float64))
    twists = CMAES(population=10, generations=5).minimise(EggBox(), at).twists
    assert not torch.equal(twists[0], twists[1])


@pytest.mark.parametrize("optimiser", [Powell(box=BOX), BOBYQA(box=BOX)], ids=["powell", "bobyqa"])
def test_the_search_stays_in_the_box(optimiser):
    problem, at = Bowl(), Points(torch.zeros(1, 6, dtype=torch.float64))
    problem.minimum = 3 * UNITS
    recorded_twists, inner_values = [], problem.values
    minima = optimiser.minimise(Recorder(inner_values, recorded_twists), at)
    assert (torch.cat(recorded_twists).abs() <= UNITS * (1 + 1e-12)).all()
    bounds = [(-u, u) for u in BOX]
    expected = scipy.optimize.minimize(
        lambda x: float(inner_values(at, torch.from_numpy(x)[None])[0]), np.zeros(6), method="L-BFGS-B", bounds=bounds
    )
    assert float(minima.values) == pytest.approx(expected.fun, rel=1e-3)
    assert not minima.converged.any()  # the minimum is outside
    assert minima.reasons == ("the best point is on the boundary of the box",)


def test_local_searches_are_as_good_as_nelder_mead():
    problem, at = Banana(), starts(1)
    problem.minimum = problem.minimum * 0.2

    def function(u):
        return float(problem.values(at, (torch.from_numpy(u) * UNITS)[None])[0])

    expected = scipy.optimize.minimize(function, np.zeros(6), method="Nelder-Mead", tol=1e-8, options={"maxfev": 10_000})
    for optimiser in (
        Powell(box=BOX, evaluations=20_000, step_tolerance=1e-6, value_tolerance=1e-12),
        BOBYQA(box=BOX, evaluations=20_000, step_tolerance=1e-7),
    ):
        minima = optimiser.minimise(problem, at)
        assert float(minima.values) <= expected.fun + 1e-5


def test_bobyqa_needs_few_evaluations_on_a_bowl():
    problem, at = Bowl(), starts(1)
    minima = BOBYQA(box=BOX, step_tolerance=1e-4).minimise(problem, at)
    assert int(minima.evaluations) < 120
    assert problem.batches == [1] * int(minima.evaluations)


def test_values_with_rounding_errors_do_not_prevent_convergence():
    class Rounded(Bowl):
        def function(self, u):
            return 0.5 + (super().function(u) * 1e6).round() / 1e6

    problem, at = Rounded(), starts(2)
    for optimiser in (BOBYQA(box=BOX), Powell(box=BOX), CMAES(sigma=BOX)):
        minima = optimiser.minimise(problem, at)
        assert minima.converged.all()
        assert problem.distance(at, minima.twists).max() < 0.05


def test_an_error_of_the_problem_is_propagated():
    class Broken(Bowl):
        def function(self, u):
            raise ValueError("the problem's own")

    for optimiser in (Powell(), BOBYQA(), CMAES()):
        with pytest.raises(ValueError, match="the problem's own"):
            optimiser.minimise(Broken(), starts(1))
