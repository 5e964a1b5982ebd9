"""CMA-ES, Powell and BOBYQA on what they are for."""

import numpy as np
import pytest
import scipy.optimize
import torch
from helpers.optimiser_problems import UNITS, Banana, Bowl, EggBox, Points, starts

from fluoro_reg.optimisers import BOBYQA, CMAES, Powell

BOX = tuple(UNITS.tolist())


class Recorder:
    """Passes values on and writes down the twists."""

    def __init__(self, values, seen):
        self.plain, self.seen = values, seen

    def values(self, starts, twists):
        self.seen.append(twists)
        return self.plain(starts, twists)


def test_a_generation_of_all_starts_is_one_call():
    problem = Bowl()
    found = CMAES(population=30, generations=7).minimise(problem, starts(4))
    assert problem.batches == [4] + [4 * 30] * 7
    assert found.evaluations.tolist() == [1 + 7 * 30] * 4


def test_cma_es_follows_a_curved_valley():
    problem, at = Banana(), starts(1)
    settings = CMAES(sigma=BOX, population=30, generations=400, step_tolerance=1e-6, value_tolerance=1e-12)
    found = settings.minimise(problem, at)
    assert problem.missed(at, found.twists).max() < 1e-3
    assert found.converged.all()


def test_cma_es_leaves_small_minima_where_a_local_search_stays():
    problem = EggBox()
    at = Points((problem.minimum + torch.tensor([1.1, -0.6, 0.9, 1.4, -1.2, 0.7], dtype=torch.float64) * UNITS)[None])
    best = CMAES(sigma=BOX, population=100, generations=200).minimise(problem, at)
    assert problem.missed(at, best.twists).max() < 1e-2
    local = scipy.optimize.minimize(
        lambda x: float(problem.values(at, torch.from_numpy(x)[None])[0]), np.zeros(6), method="BFGS"
    )
    assert problem.missed(at, torch.from_numpy(local.x)[None]).max() > 0.3


def test_another_seed_is_another_search():
    at = starts(1)
    twists = [CMAES(population=30, generations=20, seed=seed).minimise(Bowl(), at).twists for seed in (0, 1)]
    assert not torch.equal(*twists)


def test_two_starts_alike_are_two_searches():
    at = Points(torch.zeros(2, 6, dtype=torch.float64))
    twists = CMAES(population=10, generations=5).minimise(EggBox(), at).twists
    assert not torch.equal(twists[0], twists[1])


@pytest.mark.parametrize("optimiser", [Powell(box=BOX), BOBYQA(box=BOX)], ids=["powell", "bobyqa"])
def test_the_box_holds(optimiser):
    problem, at = Bowl(), Points(torch.zeros(1, 6, dtype=torch.float64))
    problem.minimum = 3 * UNITS
    seen, plain = [], problem.values
    found = optimiser.minimise(Recorder(plain, seen), at)
    assert (torch.cat(seen).abs() <= UNITS * (1 + 1e-12)).all()
    bounds = [(-u, u) for u in BOX]
    expected = scipy.optimize.minimize(
        lambda x: float(plain(at, torch.from_numpy(x)[None])[0]), np.zeros(6), method="L-BFGS-B", bounds=bounds
    )
    assert float(found.values) == pytest.approx(expected.fun, rel=1e-3)
    assert not found.converged.any()  # the minimum lies beyond
    assert found.reasons == ("the best point lies at the edge of the box",)


def test_a_local_search_finds_what_another_finds():
    problem, at = Banana(), starts(1)
    problem.minimum = problem.minimum * 0.2

    def function(u):
        return float(problem.values(at, (torch.from_numpy(u) * UNITS)[None])[0])

    expected = scipy.optimize.minimize(function, np.zeros(6), method="Nelder-Mead", tol=1e-8, options={"maxfev": 10_000})
    for optimiser in (
        Powell(box=BOX, evaluations=20_000, step_tolerance=1e-6, value_tolerance=1e-12),
        BOBYQA(box=BOX, evaluations=20_000, step_tolerance=1e-7),
    ):
        found = optimiser.minimise(problem, at)
        assert float(found.values) <= expected.fun + 1e-5


def test_bobyqa_needs_few_evaluations_on_a_bowl():
    problem, at = Bowl(), starts(1)
    found = BOBYQA(box=BOX, step_tolerance=1e-4).minimise(problem, at)
    assert int(found.evaluations) < 120
    assert problem.batches == [1] * int(found.evaluations)


def test_values_with_rounding_errors_are_no_obstacle():
    class Rounded(Bowl):
        def function(self, u):
            return 0.5 + (super().function(u) * 1e6).round() / 1e6

    problem, at = Rounded(), starts(2)
    for optimiser in (BOBYQA(box=BOX), Powell(box=BOX), CMAES(sigma=BOX)):
        found = optimiser.minimise(problem, at)
        assert found.converged.all()
        assert problem.missed(at, found.twists).max() < 0.05


def test_an_error_of_the_problem_comes_through():
    class Broken(Bowl):
        def function(self, u):
            raise ValueError("the problem's own")

    for optimiser in (Powell(), BOBYQA(), CMAES()):
        with pytest.raises(ValueError, match="the problem's own"):
            optimiser.minimise(Broken(), starts(1))
