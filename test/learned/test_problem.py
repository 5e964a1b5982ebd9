"""A learned similarity as a least-squares problem: derivatives against finite differences, and Levenberg-Marquardt."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.learned import LearnedProblem
from fluoro_reg.learned.metrics import METRICS, AbstractMetric
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector
from fluoro_reg.learned.spherical import DRRProjector
from fluoro_reg.learned.spherical_encoder import SphericalEncoder
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.rendering import TorchRenderer

UNITS = torch.tensor([10.0, 10.0, 50.0, 0.1, 0.1, 0.1], dtype=torch.float64)
CAMERA = CameraIntrinsics(16, 16, 54.4, 54.4, 7.5, 7.5, 1020.0)
TRUTH = RigidTransform(torch.eye(3, dtype=torch.float64)[None], torch.tensor([[0.0, 0.0, 700.0]], dtype=torch.float64))
PIVOT = torch.tensor([5.0, -3.0, 2.0], dtype=torch.float64)


@dataclass(frozen=True)
class Spots:
    """A projection in closed form: four soft spots of different depths on a detector, twice differentiable in the pose."""

    def __call__(self, poses: RigidTransform) -> Projection:
        zero = torch.zeros(6, dtype=torch.float64)
        return self.image(poses), torch.func.jacfwd(lambda twist: self.image(retract(poses, twist, PIVOT)))(zero)

    def image(self, poses: RigidTransform) -> Tensor:
        points = torch.tensor([[-60.0, -50, 30], [70, -40, -50], [-50, 60, -20], [55, 50, 60]], dtype=torch.float64)
        seen = poses.apply(points)
        spots = 7.5 + 54.4 * seen[..., :2] / seen[..., 2:]
        at = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy"), dim=-1).double()
        offset = at[..., None, :] - spots[..., None, None, :, :]
        width = torch.tensor([1.5, 2.0, 2.5, 3.0], dtype=torch.float64)
        return torch.exp(-offset.square().sum(-1) / (2 * width**2)).sum(-1)[:, None]


class OneEncoder(AbstractLearnedSimilarity):
    """One encoder for both sides and a metric; no CT."""

    def __init__(self, encoder: nn.Module, metric: AbstractMetric) -> None:
        nn.Module.__init__(self)
        self.encoder, self._metric = encoder, metric
        self.reference = ReferenceView(TRUTH[0], PIVOT, CAMERA)
        self.scale = torch.ones((), dtype=torch.float64)

    @property
    def metric(self) -> AbstractMetric:
        return self._metric

    def make_projector(self) -> Projector:
        return Spots()

    def embed_moving(self, image: Tensor) -> Tensor:
        return self.encoder(3 * image - 1)

    def embed_fixed(self, images: Tensor) -> Tensor:
        return self.encoder(images)


@pytest.fixture(scope="module")
def drr() -> DRRProjector:
    attenuation = torch.zeros(12, 12, 12)
    attenuation[2:10, 3:9, 4:10] = 0.02
    attenuation[6:9, 3:5, 4:6] = 0.05
    patient_from_voxel = torch.diag(torch.tensor([20.0, 20.0, 20.0, 1.0], dtype=torch.float64))
    patient_from_voxel[:3, 3] = -110.0
    volume = CTVolume(attenuation, patient_from_voxel, fingerprint="test")
    return DRRProjector(TorchRenderer(volume, dtype=torch.float64), CAMERA, PIVOT)


@pytest.fixture
def encoder() -> SphericalEncoder:
    torch.manual_seed(5)
    return SphericalEncoder(embedding_size=32, width=16, heads=2, layers=1).double()


def _problem(project: Projector, encoder: nn.Module, image: Tensor, metric: str = "angle") -> LearnedProblem:
    network = OneEncoder(encoder, METRICS[metric])
    return LearnedProblem(network, project, network.embed_moving(image))


def _poses_near_truth(seed: int, n: int = 3) -> RigidTransform:
    twist = 0.3 * UNITS * torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    poses = RigidTransform(TRUTH.rotation.expand(n, 3, 3), TRUTH.translation.expand(n, 3))
    return retract(poses, twist, PIVOT)


def _jacobian_by_differences(problem: LearnedProblem, poses: RigidTransform, h: float = 1e-5) -> Tensor:
    """The derivatives of the residuals by central differences."""
    columns = []
    for unit in UNITS.diag():
        forward, backward = (problem.evaluate(retract(poses, s * h * unit[None], PIVOT)).residuals for s in (1, -1))
        columns.append((forward - backward).detach() / (2 * h * unit.sum()))
    return torch.stack(columns, dim=-1)


@pytest.mark.parametrize("name", METRICS)
def test_the_jacobian_agrees_with_finite_differences(encoder, name):
    project = Spots()
    problem, poses = _problem(project, encoder, project.image(TRUTH), name), _poses_near_truth(0)
    expected = _jacobian_by_differences(problem, poses)
    torch.testing.assert_close(problem.evaluate(poses).jacobian, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)


@torch.no_grad()
def test_the_jacobian_of_a_rendered_ct_agrees_with_finite_differences(encoder, drr):
    start = retract(TRUTH, torch.tensor([[6.0, -9.0, 20.0, 0.05, 0.1, -0.08]], dtype=torch.float64), PIVOT)
    problem = _problem(drr, encoder, drr(TRUTH)[0])
    off = problem.evaluate(start).jacobian - _jacobian_by_differences(problem, start)
    assert float((off.abs() / _jacobian_by_differences(problem, start).abs().amax((0, 1))).max()) < 1e-4


def test_cost_gradient_and_hessian_are_those_of_the_residuals(encoder):
    project = Spots()
    problem = _problem(project, encoder, project.image(TRUTH))
    at = problem.evaluate(_poses_near_truth(1))
    here = problem.linearise(at)
    torch.testing.assert_close(problem.cost(at, here), here.cost)
    torch.testing.assert_close(problem.values_at(at.poses), here.cost)
    h = 1e-6
    for column in range(6):
        step = torch.zeros(3, 6, dtype=torch.float64)
        step[:, column] = h * UNITS[column]
        forward, backward = (problem.cost(problem.retract(at, s * step), here) for s in (1, -1))
        expected = (forward - backward) / (2 * h * UNITS[column])
        torch.testing.assert_close(2 * here.gradient[:, column], expected, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(here.hessian, torch.einsum("brk,brl->bkl", at.jacobian, at.jacobian))
    assert (torch.linalg.eigvalsh(here.hessian / (UNITS[:, None] * UNITS) ** -1) > 0).all()


def test_backward_and_forward_mode_give_the_same_gradients_of_pose_and_weights(encoder, drr):
    twist = torch.tensor([[6.0, -9.0, 20.0, 0.05, 0.1, -0.08]], dtype=torch.float64)
    weight = encoder.head.mlp[2].weight

    def problem() -> LearnedProblem:
        return _problem(drr, encoder, drr(TRUTH)[0])

    away = retract(TRUTH, twist, PIVOT)
    leaf = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(problem().values(away, leaf).sum(), leaf, create_graph=True)
    forward = 2 * problem().linearise(problem().evaluate(away)).gradient
    torch.testing.assert_close(gradient, forward)
    probe = torch.randn(6, dtype=torch.float64) * UNITS
    (by_backward,), (by_forward,) = (torch.autograd.grad((g @ probe).sum(), weight) for g in (gradient, forward))
    torch.testing.assert_close(by_backward, by_forward)

    def along_probe() -> Tensor:
        return 2 * (problem().linearise(problem().evaluate(away)).gradient @ probe).sum()

    direction = torch.randn(weight.shape, dtype=torch.float64)
    expected = _difference(along_probe, weight, direction, 1e-5)
    assert abs(expected) > 1e-2
    assert float((by_backward * direction).sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rounds", [1, 3])
def test_unrolled_iterations_can_be_differentiated_with_respect_to_the_encoder(encoder, rounds):
    """The derivative is exact if the projector's derivatives have a graph."""
    project, start, weight = Spots(), _poses_near_truth(3, n=1), encoder.head.mlp[2].weight
    other = project.image(_poses_near_truth(6, n=1)) ** 1.3
    optimiser = LevenbergMarquardt(iterations=rounds, tolerance=0.0, largest_step=(30.0, 0.3))

    def squared_error() -> Tensor:
        problem = _problem(project, encoder, other)
        at = optimiser.minimise_unrolled(problem, problem.evaluate(start))[0]
        return (at.poses.translation - TRUTH.translation).square().sum()

    (gradient,) = torch.autograd.grad(squared_error(), weight)
    direction = torch.randn(weight.shape, dtype=torch.float64)
    expected = _difference(squared_error, weight, direction, 1e-7)
    assert abs(expected) > 1e-2
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def _difference(function: Callable[[], Tensor], weight: Tensor, direction: Tensor, h: float) -> float:
    """The derivative of a function along a direction of the weights, by central differences."""
    values = []
    for sign in (1, -1):
        weight += sign * h * direction
        values.append(float(function()))
        weight -= sign * h * direction
    return (values[0] - values[1]) / (2 * h)


@torch.no_grad()
def test_levenberg_marquardt_finds_the_pose(encoder):
    project = Spots()
    problem, starts = _problem(project, encoder, project.image(TRUTH)), _poses_near_truth(4, n=6)
    at, _, _ = LevenbergMarquardt(iterations=20, tolerance=1e-10).minimise(problem, problem.evaluate(starts))
    error = (at.poses.translation - TRUTH.translation).norm(dim=-1)
    assert float(error.max()) < 1e-6
