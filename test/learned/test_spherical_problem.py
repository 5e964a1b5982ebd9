"""The spherical similarity's normal equations against finite differences, and Levenberg-Marquardt with them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.learned.spherical import METRICS, AbstractMetric
from fluoro_reg.learned.spherical_encoder import SphericalEncoder
from fluoro_reg.learned.spherical_problem import Drr, Projection, SphericalProblem
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.regressor.image_input import network_input
from fluoro_reg.rendering import TorchRenderer

UNITS = torch.tensor([10.0, 10.0, 50.0, 0.1, 0.1, 0.1], dtype=torch.float64)
CAMERA = CameraIntrinsics(16, 16, 54.4, 54.4, 7.5, 7.5, 1020.0)


@dataclass(frozen=True)
class Spots:
    """A projection in closed form: four soft spots of different depths on a detector, twice differentiable to the pose."""

    pivot: Tensor

    def __call__(self, poses: RigidTransform) -> tuple[Tensor, Tensor]:
        zero = torch.zeros(6, dtype=torch.float64)

        def moved(twist: Tensor) -> Tensor:
            return self.image(retract(poses, twist, self.pivot))

        return self.image(poses), torch.func.jacfwd(moved)(zero)

    def image(self, poses: RigidTransform) -> Tensor:
        points = torch.tensor([[-60.0, -50, 30], [70, -40, -50], [-50, 60, -20], [55, 50, 60]], dtype=torch.float64)
        seen = poses.apply(points)
        spots = 7.5 + 54.4 * seen[..., :2] / seen[..., 2:]
        at = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy"), dim=-1).double()
        offset = at[..., None, :] - spots[..., None, None, :, :]
        width = torch.tensor([1.5, 2.0, 2.5, 3.0], dtype=torch.float64)
        return torch.exp(-offset.square().sum(-1) / (2 * width**2)).sum(-1)


@pytest.fixture(scope="module")
def drr() -> Drr:
    attenuation = torch.zeros(12, 12, 12)
    attenuation[2:10, 3:9, 4:10] = 0.02
    attenuation[6:9, 3:5, 4:6] = 0.05
    patient_from_voxel = torch.diag(torch.tensor([20.0, 20.0, 20.0, 1.0], dtype=torch.float64))
    patient_from_voxel[:3, 3] = -110.0
    volume = CTVolume(attenuation, patient_from_voxel, fingerprint="test")
    return Drr(TorchRenderer(volume, dtype=torch.float64), CAMERA, PIVOT)


TRUTH = RigidTransform(torch.eye(3, dtype=torch.float64)[None], torch.tensor([[0.0, 0.0, 700.0]], dtype=torch.float64))
PIVOT = torch.tensor([5.0, -3.0, 2.0], dtype=torch.float64)


@pytest.fixture
def encoder() -> SphericalEncoder:
    torch.manual_seed(5)
    return SphericalEncoder(embedding=8, width=16, heads=2, layers=1).double()


def _against(
    project: Projection,
    encoder: torch.nn.Module,
    attenuation: Tensor,
    mask: Tensor,
    metric: AbstractMetric = METRICS["angle"],
) -> SphericalProblem:
    return SphericalProblem.of(project, PIVOT, encoder, metric, network_input(attenuation, mask), mask)


def _problem(encoder: torch.nn.Module, metric: AbstractMetric = METRICS["angle"], hidden: int = 0) -> SphericalProblem:
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    mask[:, :, :hidden] = False
    project = Spots(PIVOT)
    return _against(project, encoder, project.image(TRUTH), mask, metric)


def _away(seed: int, n: int = 3) -> RigidTransform:
    twist = 0.3 * UNITS * torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    poses = RigidTransform(TRUTH.rotation.expand(n, 3, 3), TRUTH.translation.expand(n, 3))
    return retract(poses, twist, PIVOT)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("hidden", [0, 5])
def test_the_jacobian_agrees_with_finite_differences(encoder, name, hidden):
    problem, poses, h = _problem(encoder, METRICS[name], hidden), _away(0), 1e-5
    jacobian = problem.evaluate(poses).jacobian
    for column in range(6):
        step = torch.zeros(3, 6, dtype=torch.float64)
        step[:, column] = h * UNITS[column]
        ahead, behind = (problem.residuals(problem.project(retract(poses, s * step, PIVOT))[0]) for s in (1, -1))
        expected = (ahead - behind) / (2 * h * UNITS[column])
        torch.testing.assert_close(jacobian[..., column], expected, atol=1e-6 * float(expected.detach().abs().max()), rtol=1e-5)


@torch.no_grad()
def test_the_jacobian_of_a_rendered_ct_agrees_with_finite_differences(encoder, drr):
    twists = torch.tensor([[6.0, -9.0, 20.0, 0.05, 0.1, -0.08]], dtype=torch.float64)
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    problem = _against(drr, encoder, drr(TRUTH)[0], mask)
    start, h = retract(TRUTH, twists, PIVOT), 1e-5
    jacobian = problem.evaluate(start).jacobian
    for column in range(6):
        step = h * UNITS * torch.eye(6, dtype=torch.float64)[None, column]
        ahead, behind = (problem.residuals(drr(retract(start, s * step, PIVOT))[0]) for s in (1, -1))
        expected = (ahead - behind) / (2 * h * UNITS[column])
        assert float((jacobian[..., column] - expected).abs().max() / expected.abs().max()) < 1e-4


def test_cost_gradient_and_hessian_are_those_of_the_weighted_residuals(encoder):
    problem = _problem(encoder, hidden=4)
    at = problem.evaluate(_away(1))
    here = problem.linearise(at)
    torch.testing.assert_close(problem.cost(at, here), here.cost)
    torch.testing.assert_close(here.weight.sum(-1), torch.ones(3, dtype=torch.float64))
    h = 1e-6
    for column in range(6):
        step = torch.zeros(3, 6, dtype=torch.float64)
        step[:, column] = h * UNITS[column]
        ahead, behind = (problem.cost(problem.retract(at, s * step), here) for s in (1, -1))
        expected = (ahead - behind) / (2 * h * UNITS[column])
        torch.testing.assert_close(2 * here.gradient[:, column], expected, rtol=1e-5, atol=1e-9)
    assert (torch.linalg.eigvalsh(here.hessian) > 0).all()


def test_robust_weights_are_hubers(encoder):
    problem = _problem(encoder)
    residuals = torch.zeros(1, 4, 3, dtype=torch.float64)
    residuals[0, :, 0] = torch.tensor([0.1, 0.2, 0.2, 2.0])
    corner = 1.345 * 1.4826 * 0.2
    expected = torch.tensor([1.0, 1.0, 1.0, corner / 2.0], dtype=torch.float64)
    torch.testing.assert_close(problem._weight(residuals)[0], expected / expected.sum())


def test_pixels_that_may_not_be_used_change_nothing(encoder):
    project, mask = Spots(PIVOT), torch.ones(1, 16, 16, dtype=torch.bool)
    mask[:, :5] = False
    clean = project.image(TRUTH)
    spoiled = torch.where(mask, clean, 1e3)
    problems = [_against(project, encoder, image, mask) for image in (clean, spoiled)]
    first, second = (problem.values(_away(2), torch.zeros(3, 6, dtype=torch.float64)) for problem in problems)
    torch.testing.assert_close(first, second)


def test_the_fast_projections_gradient_is_its_jacobian_and_teaches_weights_exactly(encoder, drr):
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    twist = torch.tensor([[6.0, -9.0, 20.0, 0.05, 0.1, -0.08]], dtype=torch.float64)
    weight = encoder.project[1].weight

    def problem() -> SphericalProblem:
        return _against(drr, encoder, drr(TRUTH)[0], mask)

    away = retract(TRUTH, twist, PIVOT)
    leaf = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(problem().values(away, leaf).sum(), leaf, create_graph=True)
    at = problem().evaluate(away)
    forwards = 2 * torch.einsum("bcn,bcnk->bk", at.residuals, at.jacobian) / at.residuals.shape[1]
    torch.testing.assert_close(gradient, forwards)
    probe = torch.randn(6, dtype=torch.float64) * UNITS
    (backwards,), (ahead,) = (torch.autograd.grad((g @ probe).sum(), weight) for g in (gradient, forwards))
    torch.testing.assert_close(backwards, ahead)

    def along_probe() -> Tensor:
        at = problem().evaluate(away)
        return 2 * torch.einsum("bcn,bcnk,k->", at.residuals, at.jacobian, probe) / at.residuals.shape[1]

    direction = torch.randn(weight.shape, dtype=torch.float64)
    expected = _difference(along_probe, weight, direction, 1e-5)
    assert abs(expected) > 1e-2
    assert float((backwards * direction).sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rounds", [1, 3])
def test_unrolled_rounds_can_be_differentiated_to_the_encoder(encoder, rounds):
    project, start, weight = Spots(PIVOT), _away(3, n=1), encoder.project[1].weight
    other = project.image(_away(6, n=1)) ** 1.3
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    optimiser = LevenbergMarquardt(iterations=rounds, tolerance=0.0, largest_step=(30.0, 0.3))

    def missed() -> Tensor:
        problem = _against(project, encoder, other, mask)
        at = optimiser.rounds(problem, problem.evaluate(start))[0]
        return (at.poses.translation - TRUTH.translation).square().sum()

    (gradient,) = torch.autograd.grad(missed(), weight)
    direction = torch.randn(weight.shape, dtype=torch.float64)
    expected = _difference(missed, weight, direction, 1e-5)
    assert abs(expected) > 1e-2
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def _difference(function: Callable[[], Tensor], weight: Tensor, direction: Tensor, h: float) -> float:
    """The derivative of a function of some weights, by finite differences."""
    values = []
    for sign in (1, -1):
        weight += sign * h * direction
        values.append(float(function()))
        weight -= sign * h * direction
    return (values[0] - values[1]) / (2 * h)


@torch.no_grad()
def test_levenberg_marquardt_finds_the_pose(encoder):
    problem, starts = _problem(encoder), _away(4, n=6)
    at, _, _ = LevenbergMarquardt(iterations=20, tolerance=1e-10).minimise(problem, problem.evaluate(starts))
    missed = (at.poses.translation - TRUTH.translation).norm(dim=-1)
    assert float(missed.max()) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("name", METRICS)
def test_the_table_holds_every_pose_with_every_x_ray(encoder, name):
    project, poses = Spots(PIVOT), _away(4, n=4)
    mask = torch.ones(2, 16, 16, dtype=torch.bool)
    images = project.image(_away(5, n=2))
    table = _against(project, encoder, images, mask, METRICS[name]).table(poses)
    assert table.shape == (4, 2)
    for n in range(2):
        alone = _against(project, encoder, images[n : n + 1], mask[n : n + 1], METRICS[name])
        torch.testing.assert_close(table[:, n], alone.at(poses))
