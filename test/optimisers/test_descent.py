"""Adam and gradient descent compared with those of torch, step by step."""

import pytest
import torch
from helpers.optimiser_problems import UNITS, Bowl, Points, Problem, starts

from fluoro_reg.optimisers import Adam, AutogradProblem, GradientDescent, Schedule


class RecordingBowl(Bowl):
    """A bowl that records where it is evaluated."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def values(self, starts, twists):
        self.rows.append(twists.detach().clone())
        return super().values(starts, twists)


def path_of_torch(make, rates, schedule, at):
    """Return the twists that torch's optimiser visits from one start, with torch's schedulers and the same settings."""
    translation, rotation = torch.zeros(2, 3, dtype=torch.float64).requires_grad_()
    translation, rotation = translation.detach().requires_grad_(), rotation.detach().requires_grad_()
    optimiser = make([{"params": [translation], "lr": rates[0]}, {"params": [rotation], "lr": rates[1]}])
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=schedule.plateau_decay, patience=schedule.patience, threshold=schedule.progress, threshold_mode="abs",
        eps=0.0,
    )  # fmt: skip
    problem, path = Bowl(), []
    for step in range(schedule.steps):
        twist = torch.cat([translation, rotation])[None]
        path.append(twist.detach())
        value = problem.values(at, twist).sum()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        plateau.step(value.item())
        if (step + 1) % schedule.decay_every == 0:
            for group in optimiser.param_groups:
                group["lr"] *= schedule.decay
    return torch.cat(path)


@pytest.mark.parametrize(
    ("optimiser", "make"),
    [
        (Adam, lambda groups: torch.optim.Adam(groups, betas=(0.8, 0.99))),
        (GradientDescent, lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=0.8)),
    ],
)
def test_the_path_equals_that_of_torch(optimiser, make):
    schedule = Schedule(steps=120, decay=0.9, decay_every=25, progress=1e-3, patience=4, plateau_decay=0.5, plateaus=1000)
    if optimiser is Adam:
        ours = Adam(rates=(1.0, 0.01), betas=(0.8, 0.99), schedule=schedule)
    else:
        ours = GradientDescent(rates=(3.0, 3e-4), momentum=0.8, schedule=schedule)
    at, rows = starts(1), []
    ours.minimise(AutogradProblem(RecordingBowl(rows)), at)
    expected = path_of_torch(make, ours.rates, schedule, at)
    torch.testing.assert_close(torch.cat(rows), expected, rtol=1e-9, atol=1e-9)
    assert (expected[-1] - expected[0]).norm() > 1


def test_a_converged_start_is_not_evaluated_again():
    problem = Bowl()
    at = Points(torch.stack([problem.minimum, problem.minimum + 0.3 * UNITS]))
    minima = Adam(schedule=Schedule(steps=400, patience=5)).minimise(AutogradProblem(problem), at)
    assert minima.converged.all()
    assert minima.evaluations[0] < minima.evaluations[1]
    assert problem.batches[0] == 2
    assert problem.batches[-1] == 1


def test_plateaus_end_a_descent():
    problem = Bowl()
    minima = Adam(schedule=Schedule(patience=4, plateaus=2)).minimise(AutogradProblem(problem), Points(problem.minimum[None]))
    assert minima.evaluations.tolist() == [1 + 2 * 5]
    assert minima.converged.all()


def test_a_gradient_that_is_not_finite_ends_only_its_own_descent():
    class Edge(Problem):
        def function(self, u):
            return u[..., 0].clamp_min(0).sqrt() + u.square().sum(-1)  # infinite slope at zero

    problem = Edge()
    at = Points(torch.stack([problem.minimum, problem.minimum + 0.5 * UNITS]))
    minima = Adam(schedule=Schedule(steps=20)).minimise(AutogradProblem(problem), at)
    assert minima.reasons[0] == "no value or no gradient at this point"
    assert minima.evaluations[0] == 1
    assert not minima.converged[0]
    assert minima.evaluations[1] > 1
    assert minima.values[1] < problem.values(at, torch.zeros(2, 6, dtype=torch.float64))[1]


def test_gradients_by_autograd_equal_finite_differences():
    problem, at = Bowl(), starts(3)
    twists = torch.randn(3, 6, dtype=torch.float64)
    with torch.no_grad():
        values, gradient = AutogradProblem(problem).values_and_gradient(at, twists)
    assert not values.requires_grad
    for axis in range(6):
        h = torch.zeros(6, dtype=torch.float64)
        h[axis] = 1e-5
        difference = (problem.values(at, twists + h) - problem.values(at, twists - h)) / 2e-5
        torch.testing.assert_close(gradient[:, axis], difference, rtol=1e-5, atol=1e-6)
