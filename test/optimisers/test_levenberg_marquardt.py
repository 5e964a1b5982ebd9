"""Levenberg-Marquardt on problems whose minima are known."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fluoro_reg.optimisers import LevenbergMarquardt, NormalEquations
from fluoro_reg.optimisers.batch import put, take
from fluoro_reg.optimisers.levenberg_marquardt import solve_positive_definite


@dataclass(frozen=True, slots=True)
class Point:
    x: Tensor


@dataclass(slots=True)
class Curved:
    """Residuals A (x - minimum) bent by a cubic; one direction hardly matters, like depth in an X-ray."""

    minimum: Tensor
    weight: Tensor
    evaluations: int = 0

    def retract(self, at: Point, step: Tensor) -> Point:
        self.evaluations += at.x.shape[0]
        return Point(at.x + step)

    def residual(self, x: Tensor) -> Tensor:
        d = x - self.minimum
        return self.weight * (d + 0.02 * d**3)

    def linearise(self, at: Point) -> NormalEquations:
        r = self.residual(at.x)
        d = at.x - self.minimum
        jacobian = torch.diag_embed(self.weight * (1 + 0.06 * d**2))
        return NormalEquations((r * r).sum(-1) + 1e-3, (jacobian.mT @ r[..., None]).squeeze(-1), jacobian.mT @ jacobian)

    def cost(self, trial: Point, reference: NormalEquations) -> Tensor:
        return self.residual(trial.x).square().sum(-1) + 1e-3


@pytest.fixture
def problem() -> Curved:
    minimum = torch.tensor([1.0, -2.0, 3.0, 0.01, -0.02, 0.03], dtype=torch.float64)
    return Curved(minimum, torch.tensor([1.0, 1.0, 0.05, 10.0, 10.0, 10.0], dtype=torch.float64))


def test_every_start_of_a_batch_reaches_the_minimum(problem):
    starts = problem.minimum + torch.randn(5, 6, dtype=torch.float64) * torch.tensor([8, 8, 8, 0.2, 0.2, 0.2])
    at, system, converged = LevenbergMarquardt(iterations=60, tolerance=1e-10).minimise(problem, Point(starts))
    assert converged.all()
    torch.testing.assert_close(at.x, problem.minimum.expand_as(at.x), atol=1e-3, rtol=0)
    assert (system.cost < 1.0001e-3).all()


def test_a_batch_equals_a_loop(problem):
    starts = problem.minimum + torch.randn(3, 6, dtype=torch.float64)
    together = LevenbergMarquardt().minimise(problem, Point(starts))[0].x
    one_by_one = [LevenbergMarquardt().minimise(problem, Point(start[None]))[0].x[0] for start in starts]
    torch.testing.assert_close(together, torch.stack(one_by_one))


def test_a_converged_start_is_not_evaluated_again(problem):
    starts = torch.stack([problem.minimum, problem.minimum + 5])
    LevenbergMarquardt(iterations=10).minimise(problem, Point(starts))
    assert problem.evaluations <= 12


def test_a_start_that_is_judged_hopeless_stays_where_it_is(problem):
    starts = torch.stack([problem.minimum + 1, problem.minimum + 8])
    optimiser, seen = LevenbergMarquardt(iterations=60, tolerance=1e-10), []

    def is_hopeless(at: Point, equations: NormalEquations) -> Tensor:
        seen.append(at.x)
        return torch.tensor([False, True])

    at, _, converged = optimiser.minimise(problem, Point(starts), is_hopeless, judged_after=4)
    alone, _, _ = optimiser.minimise(problem, Point(starts[:1]))
    assert converged.tolist() == [True, False] and len(seen) == 1
    assert torch.equal(at.x[1], seen[0][1]) and not torch.equal(at.x[1], starts[1])
    torch.testing.assert_close(at.x[:1], alone.x)


def test_steps_are_limited(problem):
    far = problem.minimum + torch.tensor([500.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    at = LevenbergMarquardt(iterations=1, largest_step=(12.0, 0.1)).minimise(problem, Point(far[None]))[0]
    assert (at.x[0] - far).norm() == pytest.approx(12.0, abs=1e-6)


def test_running_out_of_steps_is_not_convergence(problem):
    far = problem.minimum + 40.0
    assert not LevenbergMarquardt(iterations=2).minimise(problem, Point(far[None]))[2].any()


def test_a_start_with_infinite_cost_is_returned_unchanged(problem):
    class Empty(Curved):
        def linearise(self, at: Point) -> NormalEquations:
            batch = at.x.shape[0]
            return NormalEquations(
                torch.full((batch,), torch.inf, dtype=torch.float64), torch.zeros(batch, 6), torch.zeros(batch, 6, 6)
            )

        def cost(self, trial: Point, reference: NormalEquations) -> Tensor:
            return torch.full((trial.x.shape[0],), torch.inf, dtype=torch.float64)

    start = torch.zeros(1, 6, dtype=torch.float64)
    at, system, _ = LevenbergMarquardt().minimise(Empty(problem.minimum, problem.weight), Point(start))
    torch.testing.assert_close(at.x, start)
    assert torch.isinf(system.cost).all()


def test_a_start_whose_equations_have_no_solution_has_not_converged(problem):
    class Broken(Curved):
        def linearise(self, at: Point) -> NormalEquations:
            batch = at.x.shape[0]
            hessian = torch.full((batch, 6, 6), torch.nan, dtype=torch.float64)
            return NormalEquations(torch.ones(batch, dtype=torch.float64), torch.ones(batch, 6), hessian)

    start = torch.zeros(1, 6, dtype=torch.float64)
    at, _, converged = LevenbergMarquardt().minimise(Broken(problem.minimum, problem.weight), Point(start))
    torch.testing.assert_close(at.x, start)
    assert not converged.any()


def test_take_and_put_affect_only_the_given_rows():
    batch = NormalEquations(torch.arange(4.0), torch.zeros(4, 6), torch.zeros(4, 6, 6))
    rows = torch.tensor([2, 0])
    assert take(batch, rows).cost.tolist() == [2.0, 0.0]
    new = NormalEquations(torch.tensor([20.0, 10.0]), torch.ones(2, 6), torch.ones(2, 6, 6))
    changed = put(batch, rows, new)
    assert changed.cost.tolist() == [10.0, 1.0, 20.0, 3.0]
    assert batch.cost.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert changed.hessian[1].abs().sum() == 0


@pytest.mark.parametrize("condition", [1.0, 1e6, 1e12])
def test_elimination_agrees_with_lapack(condition: float) -> None:
    rotation = torch.linalg.qr(torch.randn(4, 6, 6, dtype=torch.float64)).Q
    spread = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), 6, dtype=torch.float64)
    matrix, right_side = (rotation * spread) @ rotation.mT, torch.randn(4, 6, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, right_side)
    error = (solve_positive_definite(matrix, right_side) - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert float(error.max()) < 1e-15 * condition * 1e2


def test_elimination_of_a_zero_matrix_is_not_finite() -> None:
    assert not torch.isfinite(solve_positive_definite(torch.zeros(1, 6, 6), torch.ones(1, 6))).any()


def test_unrolled_iterations_give_the_same_result(problem):
    starts = Point(problem.minimum + torch.randn(5, 6, dtype=torch.float64) * torch.tensor([8, 8, 8, 0.2, 0.2, 0.2]))
    optimiser = LevenbergMarquardt(iterations=60, tolerance=1e-10)
    at, system, converged = optimiser.minimise(problem, starts)
    fixed_at, fixed_system, fixed_converged = optimiser.minimise_unrolled(problem, starts)
    torch.testing.assert_close(fixed_at.x, at.x)
    torch.testing.assert_close(fixed_system.cost, system.cost)
    assert fixed_converged.tolist() == converged.tolist()


@dataclass(slots=True)
class WeaklyCorrelated(Curved):
    """Unit vectors at angles x against a target of length `correlation`: large residuals remain at the minimum, x = 0."""

    correlation: float = 0.3

    def residual(self, x: Tensor) -> Tensor:
        return torch.cat([x.cos() - self.correlation, x.sin()], dim=-1)

    def linearise(self, at: Point) -> NormalEquations:
        r = self.residual(at.x)
        jacobian = torch.cat([torch.diag_embed(-at.x.sin()), torch.diag_embed(at.x.cos())], dim=-2)
        return NormalEquations(r.square().sum(-1) + 1e-3, (jacobian.mT @ r[..., None]).squeeze(-1), jacobian.mT @ jacobian)


@pytest.mark.parametrize("correlation", [0.3, 0.6])
def test_stretched_steps_reach_a_minimum_with_large_residuals_in_a_fraction_of_the_evaluations(correlation):
    zero, one, start = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64), torch.full((1, 6), 0.1)
    evaluations = {}
    for stretch in (1.0, 4.0):
        problem = WeaklyCorrelated(zero, one, correlation=correlation)
        optimiser = LevenbergMarquardt(100, tolerance=1e-12, maximum_stretch=stretch)
        at, _, converged = optimiser.minimise(problem, Point(start.double()))
        assert converged.all()
        torch.testing.assert_close(at.x[0], zero, atol=1e-5, rtol=0)
        evaluations[stretch] = problem.evaluations
    assert evaluations[4.0] < 0.6 * evaluations[1.0]


def test_steps_are_not_stretched_where_the_model_is_right():
    problem = Curved(torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64))
    start = Point(torch.full((1, 6), 1e-3, dtype=torch.float64))
    equations, optimiser = problem.linearise(start), LevenbergMarquardt()
    step, _ = optimiser._step(equations, torch.zeros(1, dtype=torch.float64))
    cost = problem.cost(problem.retract(start, step), equations)
    stretch = optimiser._update_stretch(torch.ones(1, dtype=torch.float64), equations, step, cost)
    assert float(stretch) == pytest.approx(1.0, abs=1e-3)


@dataclass(slots=True)
class Overpromising(Curved):
    """A bowl whose gradient and Hessian overestimate the decrease of every step by the factor `exaggeration`."""

    exaggeration: float = 1.0

    def linearise(self, at: Point) -> NormalEquations:
        system = Curved.linearise(self, at)
        return NormalEquations(system.cost, self.exaggeration * system.gradient, self.exaggeration * system.hessian)


def test_damping_depends_on_the_ratio_of_actual_and_predicted_decrease():
    minimum, weight = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    start = Point(torch.full((1, 6), 1e-3, dtype=torch.float64))
    optimiser = LevenbergMarquardt(easing=3.0, tightening=4.0, trusted_gain=0.5)
    damping = torch.tensor([1e-2], dtype=torch.float64)
    for exaggeration, expected in ((1.0, 1e-2 / 3), (1.9, 1e-2 / 3), (2.1, 1e-2)):
        problem = Overpromising(minimum, weight, exaggeration=exaggeration)
        equations = problem.linearise(start)
        step, _ = optimiser._step(equations, torch.zeros(1, dtype=torch.float64))
        cost = problem.cost(problem.retract(start, step), equations)
        assert float(optimiser._update_damping(damping, equations, step, cost)) == pytest.approx(expected)
        assert float(optimiser._update_damping(damping, equations, -step, 2 * equations.cost)) == pytest.approx(4e-2)


@pytest.mark.parametrize("trusted_gain", [0.0, 0.5])
def test_the_result_is_differentiable_with_respect_to_the_problem_and_the_damping(trusted_gain):
    start = Point(torch.tensor([[4.0, -3.0, 5.0, 0.1, 0.1, -0.1], [-5.0, 6.0, 1.0, 0.0, 0.2, 0.1]], dtype=torch.float64))
    optimiser = LevenbergMarquardt(iterations=3, tolerance=0.0, largest_step=(5.0, 0.1), trusted_gain=trusted_gain)

    def found(minimum: Tensor, weight: Tensor, log_damping: Tensor) -> Tensor:
        return optimiser.minimise_unrolled(Curved(minimum, weight), start, log_damping.exp())[0].x

    minimum = torch.tensor([1.0, -2.0, 3.0, 0.01, -0.02, 0.03], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, 1.0, 0.05, 10.0, 10.0, 10.0], dtype=torch.float64, requires_grad=True)
    log_damping = torch.tensor([-3.0, -1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(found, (minimum, weight, log_damping))
    by_damping = torch.autograd.grad(found(minimum, weight, log_damping).sum(), log_damping)[0]
    assert (by_damping.abs() > 1e-4).all()


@pytest.mark.parametrize("trusted_gain", [0.0, 0.25])
@pytest.mark.parametrize("bodies", [1, 2])
def test_compiled_steps_are_those_of_torch(bodies: int, trusted_gain: float) -> None:
    """A tensor that needs a gradient is computed by torch. Two starts have no solution or cost."""
    batch, n = 12, 6 * bodies
    factor = torch.randn(batch, 2 * n, n, dtype=torch.float64) * torch.tensor([1.0, 1, 0.1, 30, 30, 30]).repeat(bodies)
    hessian, gradient = factor.mT @ factor, (factor.mT @ torch.randn(batch, 2 * n, 1, dtype=torch.float64)).squeeze(-1)
    hessian[-1], gradient[-1], hessian[-2, 1, 1] = 0.0, 1.0, torch.nan
    gradient[:4] *= 100  # beyond the longest step
    cost = torch.rand(batch, dtype=torch.float64)
    cost[-3] = torch.inf
    trial = cost + torch.linspace(-0.2, 0.2, batch, dtype=torch.float64)
    damping, stretch = 10.0 ** torch.linspace(-6, 2, batch, dtype=torch.float64), 1 + 3 * torch.rand(batch, dtype=torch.float64)
    optimiser = LevenbergMarquardt(trusted_gain=trusted_gain)

    def everything(damping, stretch):
        equations = NormalEquations(cost, gradient, hessian)
        step, solved = optimiser._step(equations, damping)
        trial_step = optimiser._limited(stretch[:, None] * step)
        return (
            step, solved, trial_step, optimiser._update_damping(damping, equations, trial_step, trial),
            optimiser._update_stretch(stretch, equations, trial_step, trial),
        )  # fmt: skip

    with_gradient = everything(damping.clone().requires_grad_(), stretch.clone().requires_grad_())
    for compiled, reference in zip(everything(damping, stretch), with_gradient, strict=True):
        assert not compiled.requires_grad
        torch.testing.assert_close(compiled, reference.detach(), rtol=1e-9, atol=1e-12)
    assert not with_gradient[1][-2]
