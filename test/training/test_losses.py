"""Losses against closed forms and finite differences; values and gradients are finite where the error is zero."""

import math

import pytest
import torch

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract, so3
from fluoro_reg.regressor.network import PoseEstimate
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.training import losses

PIVOT = torch.tensor([20.0, -50.0, 400.0], dtype=torch.float64)
CAMERA = CameraIntrinsics(64, 64, 217.6, 217.6, 31.5, 31.5, 1020.0)
POINTS = PIVOT + 25 * torch.randn(30, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
TRUTH = RigidTransform.stack([ap_pose(PIVOT, 700.0)])
RADIUS = 510.0


def moved(*twist: float) -> RigidTransform:
    return retract(TRUTH, torch.tensor([twist], dtype=torch.float64), PIVOT)


def loss_of(name: str, estimated: RigidTransform) -> torch.Tensor:
    if name == "landmarks":
        return losses.projected_landmarks(estimated, TRUTH, POINTS, CAMERA)
    return getattr(losses, name)(estimated, TRUTH, PIVOT, RADIUS)


@pytest.mark.parametrize("name", ["geodesic", "log_geodesic"])
def test_geodesics_of_pure_rotations_and_pure_translations(name):
    assert float(loss_of(name, moved(3, 4, 12, 0, 0, 0))) == pytest.approx(13, abs=losses.SMOOTHING_MM)
    rotation = 0.3 * torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 2.0]), dim=0)
    assert float(loss_of(name, moved(0, 0, 0, *rotation.tolist()))) == pytest.approx(0.3 * RADIUS, abs=losses.SMOOTHING_MM)


def test_the_geodesics_differ_where_rotation_and_translation_combine():
    """exp of (v, w) moves the pivot by the chord of an arc of length |v|, for v perpendicular to w."""
    angle, arc = 1.2, 60.0
    pose = moved(arc, 0, 0, 0, 0, angle)
    chord = arc * math.sin(angle / 2) / (angle / 2)
    assert float(loss_of("geodesic", pose)) == pytest.approx(math.hypot(angle * RADIUS, chord), abs=0.1)
    assert float(loss_of("log_geodesic", pose)) == pytest.approx(math.hypot(angle * RADIUS, arc), abs=0.1)


def test_projected_landmarks_measure_in_plane_translations_and_hardly_depth():
    aside = RigidTransform(TRUTH.rotation, TRUTH.translation + torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64))
    assert float(loss_of("landmarks", aside)) == pytest.approx(5, abs=losses.SMOOTHING_MM)
    nearer = RigidTransform(TRUTH.rotation, TRUTH.translation - torch.tensor([0.0, 0.0, 10.0], dtype=torch.float64))
    true, found = TRUTH.apply(POINTS)[0], nearer.apply(POINTS)[0]
    off = true[:, :2].norm(dim=-1) * (true[:, 2] / found[:, 2] - 1)
    smooth = (off.square() + losses.SMOOTHING_MM**2).sqrt() - losses.SMOOTHING_MM
    assert 0.2 < float(smooth.mean()) < 1
    assert float(loss_of("landmarks", nearer)) == pytest.approx(float(smooth.mean()), rel=1e-6)


def test_landmarks_outside_the_image_do_not_count():
    far = torch.cat([POINTS[:1], POINTS[:1] + torch.tensor([5000.0, 0, 0])])
    rotated = moved(0, 0, 0, 0, 0.1, 0)
    only = losses.projected_landmarks(rotated, TRUTH, POINTS[:1], CAMERA)
    torch.testing.assert_close(losses.projected_landmarks(rotated, TRUTH, far, CAMERA), only)


@pytest.mark.parametrize("name", ["geodesic", "log_geodesic", "landmarks"])
@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-3, 1.0])
def test_value_and_gradient_are_finite_and_right(name, size):
    twist = size * torch.tensor([[3.0, -2.0, 5.0, 0.1, 0.2, -0.15]], dtype=torch.float64)

    def loss(at: torch.Tensor) -> torch.Tensor:
        return loss_of(name, retract(TRUTH, at, PIVOT)).sum()

    twist.requires_grad_()
    value = loss(twist)
    (gradient,) = torch.autograd.grad(value, twist)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()
    if size == 0:
        assert value.detach().item() == pytest.approx(0, abs=1e-9)
        assert float(gradient.norm()) == pytest.approx(0, abs=1e-6)
        return
    step = 1e-5
    for axis in range(6):
        forward, backward = twist.detach().clone(), twist.detach().clone()
        forward[0, axis] += step
        backward[0, axis] -= step
        slope = (loss(forward) - loss(backward)) / (2 * step)
        assert float(gradient[0, axis]) == pytest.approx(float(slope), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["geodesic", "log_geodesic"])
def test_half_a_turn_has_a_finite_gradient_in_single_precision(name):
    """From AP to PA, where the logarithm is discontinuous: an untrained network is that far off for half its images."""
    twist = torch.tensor([[0.0, 0, 0, 0, 0, math.pi]], requires_grad=True)
    estimated = retract(TRUTH.to(torch.float32), twist, PIVOT.float())
    value = getattr(losses, name)(estimated, TRUTH.to(torch.float32), PIVOT.float(), RADIUS)
    value.sum().backward()
    assert value.detach().item() == pytest.approx(math.pi * RADIUS, rel=1e-3)
    assert torch.isfinite(twist.grad).all()


def test_the_image_loss_is_zero_at_the_true_pose_and_its_gradient_leads_there(volume):
    renderer = make_renderer(volume, "cpu")
    truth = RigidTransform.stack([ap_pose(volume.centre_patient, 700.0)])
    fixed = project(renderer, truth, CAMERA)

    def loss(twist: torch.Tensor) -> torch.Tensor:
        return losses.image_loss(project(renderer, retract(truth, twist, volume.centre_patient), CAMERA), fixed).sum()

    assert float(loss(torch.zeros(1, 6, dtype=torch.float64))) == pytest.approx(0, abs=1e-3)  # nearly flat windows are damped
    twist = torch.tensor([[4.0, 0, 0, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    loss(twist).backward()
    step = 0.05
    forward, backward = twist.detach() + twist.new_tensor([step] + [0] * 5), twist.detach() - twist.new_tensor([step] + [0] * 5)
    slope = float(loss(forward) - loss(backward)) / (2 * step)
    assert slope > 0
    assert float(twist.grad[0, 0]) == pytest.approx(slope, rel=0.1)


def test_the_likelihood_is_that_of_a_gaussian_in_camera_axes():
    """AP: patient x, y, z are camera x, z, -y; torch's own distribution is the oracle."""
    sd = torch.tensor([2.0, 3.0, 20.0, 0.05, 0.06, 0.02], dtype=torch.float64)
    lower = torch.eye(6, dtype=torch.float64) + 0.3 * torch.ones(6, 6, dtype=torch.float64).tril(-1)
    factor = (lower / sd[:, None])[None]
    estimate = PoseEstimate(TRUTH, factor)
    truth = moved(4.0, -8.0, 1.0, 0.02, -0.03, 0.05)
    error = torch.tensor([4.0, -1.0, -8.0, 0.02, -0.05, -0.03], dtype=torch.float64)
    gaussian = torch.distributions.MultivariateNormal(
        torch.zeros(6, dtype=torch.float64), precision_matrix=(factor @ factor.mT)[0]
    )
    found = losses.negative_log_likelihood(estimate, truth, PIVOT)
    assert float(found) == pytest.approx(-float(gaussian.log_prob(error)), rel=1e-9)


def test_the_likelihood_sends_no_gradient_to_the_pose():
    rotation_vector = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    factor = torch.eye(6, dtype=torch.float64)[None].requires_grad_()
    pose = RigidTransform(so3.exp(rotation_vector) @ TRUTH.rotation, TRUTH.translation)
    losses.negative_log_likelihood(PoseEstimate(pose, factor), moved(1, 2, 3, 0, 0, 0), PIVOT).sum().backward()
    assert rotation_vector.grad is None or float(rotation_vector.grad.abs().max()) == 0
    assert float(factor.grad.abs().max()) > 0
