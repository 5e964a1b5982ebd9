"""What every optimiser of the table promises."""

import random

import numpy as np
import pytest
import torch
from helpers.optimiser_problems import UNITS, Bowl, EggBox, HalfBlind, Nowhere, Points, starts

from fluoro_reg.optimisers import (
    BOBYQA,
    CMAES,
    OPTIMISERS,
    Adam,
    ByAutograd,
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
HURRIED = {
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
    return optimiser.minimise(problem if hasattr(problem, "values_and_gradient") else _needed(optimiser, problem), at)


def _needed(optimiser, problem):
    return ByAutograd(problem) if isinstance(optimiser, (Adam, GradientDescent)) else problem


def test_every_entry_of_the_table_is_tested():
    assert {name: type(optimiser) for name, optimiser in TUNED.items()} == OPTIMISERS
    assert set(HURRIED) == set(OPTIMISERS)


def test_every_start_reaches_the_minimum_of_a_bowl_and_says_so(name):
    problem, at = Bowl(), starts(3)
    found = minimise(TUNED[name], problem, at)
    assert problem.missed(at, found.twists).max() < 2e-3
    assert found.converged.all()
    torch.testing.assert_close(found.values, problem.values(at, found.twists))
    assert len(found.reasons) == 3
    assert not any("spent" in reason for reason in found.reasons)


def test_evaluations_are_counted(name):
    problem = Bowl()
    found = minimise(TUNED[name], problem, starts(2))
    assert int(found.evaluations.sum()) == sum(problem.batches)
    assert (found.evaluations > 10).all()


def test_running_out_is_not_convergence_and_never_worse_than_the_start(name):
    problem, at = Bowl(), starts(3)
    before = problem.values(at, torch.zeros(3, 6, dtype=torch.float64))
    found = minimise(HURRIED[name], problem, at)
    assert not found.converged.any()
    assert all("spent" in reason for reason in found.reasons)
    assert (found.values <= before).all()
    at_minimum = Points(problem.minimum[None])
    assert minimise(HURRIED[name], problem, at_minimum).twists.norm() == 0


def test_starts_do_not_know_of_each_other(name):
    at = starts(3)
    together = minimise(TUNED[name], EggBox(), at)
    first = minimise(TUNED[name], EggBox(), Points(at.x[:1]))
    torch.testing.assert_close(together.twists[:1], first.twists)
    last_moved = minimise(TUNED[name], EggBox(), Points(torch.cat([at.x[:2], at.x[2:] + UNITS])))
    torch.testing.assert_close(last_moved.twists[:2], together.twists[:2])


def test_the_same_again_and_nobody_elses_random_numbers(name):
    at = starts(2)
    once = minimise(TUNED[name], EggBox(), at)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    torch.manual_seed(99)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = minimise(TUNED[name], EggBox(), at)
    assert torch.equal(once.twists, again.twists)
    assert torch.equal(once.evaluations, again.evaluations)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_a_region_without_values_is_avoided(name):
    problem = HalfBlind()
    at = Points(torch.stack([problem.minimum - 0.2 * UNITS, problem.minimum + 0.3 * UNITS]))
    found = minimise(TUNED[name], problem, at)
    assert problem.missed(at, found.twists).max() < 0.05


def test_where_nothing_has_a_value_nothing_converges(name):
    at = starts(2)
    found = minimise(TUNED[name], Nowhere(), at)
    assert not found.converged.any()
    assert torch.isinf(found.values).all()
    assert found.twists.abs().max() == 0


def test_a_millimetre_and_a_radian_are_worth_what_the_settings_say(name):
    """The same problem with other units and settings to match takes the same path."""

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
    found = minimise(rescaled[name], Metres(Bowl().minimum / scale), Points(at.x / scale))
    torch.testing.assert_close(found.twists * scale, expected.twists, rtol=0, atol=2e-3)
