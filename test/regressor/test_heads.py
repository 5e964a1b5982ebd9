"""Heads and the algebra of the uncertainty against scipy, closed forms and sampling."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.regressor import HEADS, PoseEstimate
from fluoro_reg.regressor.heads import LOG_DEPTH_SCALE, rotation_from_quaternion
from fluoro_reg.regressor.network import camera_twist, patient_covariance

NAMES = sorted(HEADS)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_zero_give_the_reference_view(name, reference):
    head = HEADS[name]()
    pose = head.pose(torch.zeros(2, head.size, dtype=torch.float64), reference)
    expected = reference.camera_from_patient.matrix().expand(2, 4, 4)
    torch.testing.assert_close(pose.matrix(), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_any_outputs_give_a_proper_rotation_and_finite_gradients(name, reference):
    head = HEADS[name]()
    outputs = (2 * torch.randn(200, head.size, dtype=torch.float64)).requires_grad_()
    pose = head.pose(outputs, reference)
    torch.testing.assert_close(pose.rotation @ pose.rotation.mT, torch.eye(3, dtype=torch.float64).expand(200, 3, 3))
    torch.testing.assert_close(torch.linalg.det(pose.rotation), torch.ones(200, dtype=torch.float64))
    (pose.rotation.square().cumsum(0).sum() + pose.translation.sum()).backward()
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize(
    ("name", "outputs_of"), [("rotation-6d", lambda r: r[:, :2].T.reshape(-1)), ("quaternion-adjugate", None)]
)
def test_every_rotation_can_be_represented(name, outputs_of, reference):
    """Even half a turn, from AP to PA."""
    head = HEADS[name]()
    rotations = [Rotation.from_rotvec([0, math.pi, 0]), *Rotation.random(20, random_state=1)]
    for rotation in rotations:
        if outputs_of is None:
            x, y, z, w = rotation.as_quat()
            q = torch.tensor([w, x, y, z])
            row, column = torch.triu_indices(4, 4)
            values = (q[:, None] * q)[row, column]
            zero = torch.diag(torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))[row, column]
        else:
            values = outputs_of(torch.tensor(rotation.as_matrix()))
            zero = outputs_of(torch.eye(3, dtype=torch.float64))
        outputs = torch.cat([values - zero, torch.zeros(3, dtype=torch.float64)])[None]
        expected = torch.tensor(rotation.as_matrix()) @ reference.camera_from_patient.rotation
        torch.testing.assert_close(head.pose(outputs, reference).rotation[0], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["rotation-6d", "quaternion-adjugate"])
def test_the_position_outputs_place_the_pivot_whatever_the_rotation(name, reference):
    head = HEADS[name]()
    outputs = torch.randn(5, head.size, dtype=torch.float64)
    outputs[:, -3:] = torch.tensor([1.0, -0.5, 1.0], dtype=torch.float64)
    at = head.pose(outputs, reference).apply(reference.pivot[None])[:, 0]
    pixels = reference.intrinsics.project(at)
    camera = reference.intrinsics
    expected = torch.tensor([camera.cx + camera.width / 2, camera.cy - camera.width / 4], dtype=torch.float64)
    torch.testing.assert_close(pixels, expected.expand(5, 2))
    torch.testing.assert_close(at[:, 2], torch.full((5,), 700 * math.exp(LOG_DEPTH_SCALE), dtype=torch.float64))


def test_rotations_of_quaternions_agree_with_scipy():
    rotation = Rotation.random(30, random_state=0)
    x, y, z, w = torch.tensor(rotation.as_quat()).T
    found = rotation_from_quaternion(torch.stack([w, x, y, z], dim=-1))
    torch.testing.assert_close(found, torch.tensor(rotation.as_matrix()))


def test_the_camera_twist_is_the_patient_twist_in_camera_axes(reference):
    start = reference.camera_from_patient
    twist = torch.tensor([3.0, -5.0, 2.0, 0.1, 0.02, -0.2], dtype=torch.float64)
    found = camera_twist(start, retract(start, twist, reference.pivot), reference.pivot)
    expected = torch.cat([start.rotation @ twist[:3], start.rotation @ twist[3:]])
    torch.testing.assert_close(found, expected)


def test_the_patient_covariance_is_that_of_sampled_twists(reference):
    """Errors sampled in camera axes from the Gaussian of the factor, expressed as twists of `retract` about the pivot."""
    generator = torch.Generator().manual_seed(2)
    sd = torch.tensor([2.0, 3.0, 15.0, 0.03, 0.05, 0.02], dtype=torch.float64)
    lower = torch.eye(6, dtype=torch.float64) + 0.3 * torch.randn(6, 6, generator=generator, dtype=torch.float64).tril(-1)
    factor = lower / sd[:, None]
    rotated = retract(
        reference.camera_from_patient, torch.tensor([0, 0, 0, 0.4, -0.3, 0.8], dtype=torch.float64), reference.pivot
    )
    normal = torch.randn(100_000, 6, generator=generator, dtype=torch.float64)
    errors = torch.linalg.solve_triangular(factor.mT, normal.T, upper=True).T
    sampled = torch.cat([errors[:, :3] @ rotated.rotation, errors[:, 3:] @ rotated.rotation], dim=-1)
    one = RigidTransform(rotated.rotation[None], rotated.translation[None])
    found = patient_covariance(PoseEstimate(one, factor[None]))[0]
    scale = found.diagonal().sqrt()
    torch.testing.assert_close(torch.cov(sampled.T) / scale[:, None] / scale, found / scale[:, None] / scale, atol=0.02, rtol=0)
    truth = retract(rotated, sampled[0], reference.pivot)
    torch.testing.assert_close(camera_twist(rotated, truth, reference.pivot), errors[0])


def test_the_log_head_applies_the_exponential_of_its_outputs(reference):
    outputs = torch.tensor([[0.1, -0.2, 0.3, 0.2, 0.1, -0.4]], dtype=torch.float64)
    pose = HEADS["se3-log"]().pose(outputs, reference)
    twist = se3.local(reference.camera_from_patient, pose, reference.pivot)
    expected = outputs * torch.tensor([reference.half_field_of_view_mm] * 3 + [1.0] * 3, dtype=torch.float64)
    torch.testing.assert_close(twist, expected)
    assert reference.half_field_of_view_mm == pytest.approx(0.5 * 300 * 700 / 1020)
