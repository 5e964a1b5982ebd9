"""The contract of all optimisers."""

import random

import numpy as np
import pytest
import torch
from helpers.optimiser_problems import UNITS, Bowl, EggBox, PartlyUndefined, Points, Undefined, starts

from fluoro_reg.optimisers import (
    BOBYQA,
    CMAES,
    OPTIMISERS,
    Adam,
    AutogradProblem,
    GradientDescent,
    Powell,
    Schedule,
)

BOX = tuple(UNITS.tolist())
PATIENT = Schedule(steps=2000, progress=1e-9, patience=30)
TUNED = {
    "adam": Adam(rates=(1.0, 0.01), schedule=PATIENT),
    "bobyqa": BOBYQA(box=BOX, step_tolerance=1e-6),
    "cma-es": CMAES(sigma=BOX, population=20, generations=300, step_tolerance=1e-3, value_tolerance=1e-12),
    "gradient-descent": GradientDescent(rates=(2.0, 2e-4), momentum=0.9, schedule=PATIENT),
    "powell": Powell(box=BOX, evaluations=3000, step_tolerance=1e-6, value_tolerance=1e-12),
}
TRUNCATED = {
    "adam": Adam(schedule=Schedule(steps=2)),
    "bobyqa": BOBYQA(evaluations=2),
    "cma-es": CMAES(population=4, generations=1),
    "gradient-descent": GradientDescent(rates=(1e-3, 1e-6), schedule=Schedule(steps=2)),
    "powell": Powell(evaluations=2),
}


@pytest.fixture(params=OPTIMISERS)
def name(request):
    return request.param


def minimise(optimiser, problem, at: Points):
    return optimiser.minimise(problem if hasattr(problem, "values_and_gradient") else _adapt_problem(optimiser, problem), at)


def _adapt_problem(optimiser, problem):
    return AutogradProblem(problem) if isinstance(optimiser, (Adam, GradientDescent)) else problem


def test_every_optimiser_is_tested():
    assert {name: type(optimiser) for name, optimiser in TUNED.items()} == OPTIMISERS
    assert set(TRUNCATED) == set(OPTIMISERS)


def test_every_start_converges_to_the_minimum_of_a_bowl(name):
    problem, at = Bowl(), starts(3)
    minima = minimise(TUNED[name], problem, at)
    assert problem.distance(at, minima.twists).max() < 2e-3
    assert minima.converged.all()
    torch.testing.assert_close(minima.values, problem.values(at, minima.twists))
    assert len(minima.reasons) == 3
    assert not any("maximum number" in reason for reason in minima.reasons)


def test_evaluations_are_counted(name):
    problem = Bowl()
    minima = minimise(TUNED[name], problem, starts(2))
    assert int(minima.evaluations.sum()) == sum(problem.batches)
    assert (minima.evaluations > 10).all()


def test_reaching_a_limit_is_not_convergence_and_never_worse_than_the_start(name):
    problem, at = Bowl(), starts(3)
    before = problem.values(at, torch.zeros(3, 6, dtype=torch.float64))
    minima = minimise(TRUNCATED[name], problem, at)
    assert not minima.converged.any()
    assert all("maximum number" in reason for reason in minima.reasons)
    assert (minima.values <= before).all()
    at_minimum = Points(problem.minimum[None])
    assert minimise(TRUNCATED[name], problem, at_minimum).twists.norm() == 0


def test_starts_are_independent_of_each_other(name):
    at = starts(3)
    together = minimise(TUNED[name], EggBox(), at)
    first = minimise(TUNED[name], EggBox(), Points(at.x[:1]))
    torch.testing.assert_close(together.twists[:1], first.twists)
    last_moved = minimise(TUNED[name], EggBox(), Points(torch.cat([at.x[:2], at.x[2:] + UNITS])))
    torch.testing.assert_close(last_moved.twists[:2], together.twists[:2])


def test_results_are_reproducible_and_global_random_state_is_untouched(name):
    at = starts(2)
    first_run = minimise(TUNED[name], EggBox(), at)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    torch.manual_seed(99)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    second_run = minimise(TUNED[name], EggBox(), at)
    assert torch.equal(first_run.twists, second_run.twists)
    assert torch.equal(first_run.evaluations, second_run.evaluations)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_a_region_without_values_is_avoided(name):
    problem = PartlyUndefined()
    at = Points(torch.stack([problem.minimum - 0.2 * UNITS, problem.minimum + 0.3 * UNITS]))
    minima = minimise(TUNED[name], problem, at)
    assert problem.distance(at, minima.twists).max() < 0.05


def test_without_any_value_nothing_converges(name):
    at = starts(2)
    minima = minimise(TUNED[name], Undefined(), at)
    assert not minima.converged.any()
    assert torch.isinf(minima.values).all()
    assert minima.twists.abs().max() == 0


def test_settings_define_the_scale_of_millimetres_and_radians(name):
    """The same problem in other units, with settings to match, takes the same path."""

    class Metres(Bowl):
        def function(self, u):
            return super().function(u * torch.tensor([1000.0, 1000.0, 1000.0, 10.0, 10.0, 10.0], dtype=torch.float64))

    scale = torch.tensor([1000.0, 1000.0, 1000.0, 10.0, 10.0, 10.0], dtype=torch.float64)
    box = tuple((UNITS / scale).tolist())
    rescaled = {
        "adam": Adam(rates=(1e-3, 1e-3), schedule=PATIENT),
        "bobyqa": BOBYQA(box=box, step_tolerance=1e-6),
        "cma-es": CMAES(sigma=box, population=20, generations=300, step_tolerance=1e-3, value_tolerance=1e-12),
        "gradient-descent": GradientDescent(rates=(2e-6, 2e-6), momentum=0.9, schedule=PATIENT),
        "powell": Powell(box=box, evaluations=3000, step_tolerance=1e-6, value_tolerance=1e-12),
    }
    at = starts(2)
    expected = minimise(TUNED[name], Bowl(), at)
    minima = minimise(rescaled[name], Metres(Bowl().minimum / scale), Points(at.x / scale))
    torch.testing.assert_close(minima.twists * scale, expected.twists, rtol=0, atol=2e-3)
