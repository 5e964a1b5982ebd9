"""Heads and the doubt's algebra against scipy, closed forms and sampling."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.regressor import HEADS, PoseEstimate
from fluoro_reg.regressor.heads import DEPTH_FRACTION, rotation_of_quaternion
from fluoro_reg.regressor.network import camera_twist, patient_covariance

NAMES = sorted(HEADS)


@pytest.mark.parametrize("name", NAMES)
def test_zeros_are_the_reference(name, reference):
    head = HEADS[name]()
    pose = head.pose(torch.zeros(2, head.size, dtype=torch.float64), reference)
    expected = reference.camera_from_patient.matrix().expand(2, 4, 4)
    torch.testing.assert_close(pose.matrix(), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_any_numbers_give_a_proper_rotation_and_finite_gradients(name, reference):
    head = HEADS[name]()
    numbers = (2 * torch.randn(200, head.size, dtype=torch.float64)).requires_grad_()
    pose = head.pose(numbers, reference)
    torch.testing.assert_close(pose.rotation @ pose.rotation.mT, torch.eye(3, dtype=torch.float64).expand(200, 3, 3))
    torch.testing.assert_close(torch.linalg.det(pose.rotation), torch.ones(200, dtype=torch.float64))
    (pose.rotation.square().cumsum(0).sum() + pose.translation.sum()).backward()
    assert torch.isfinite(numbers.grad).all()


@pytest.mark.parametrize(
    ("name", "numbers_of"), [("rotation-6d", lambda r: r[:, :2].T.reshape(-1)), ("quaternion-adjugate", None)]
)
def test_every_rotation_can_be_said(name, numbers_of, reference):
    """Also the half turn from AP to PA."""
    head = HEADS[name]()
    turns = [Rotation.from_rotvec([0, math.pi, 0]), *Rotation.random(20, random_state=1)]
    for turn in turns:
        if numbers_of is None:
            x, y, z, w = turn.as_quat()
            q = torch.tensor([w, x, y, z])
            row, column = torch.triu_indices(4, 4)
            said = (q[:, None] * q)[row, column]
            zero = torch.diag(torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))[row, column]
        else:
            said = numbers_of(torch.tensor(turn.as_matrix()))
            zero = numbers_of(torch.eye(3, dtype=torch.float64))
        numbers = torch.cat([said - zero, torch.zeros(3, dtype=torch.float64)])[None]
        expected = torch.tensor(turn.as_matrix()) @ reference.camera_from_patient.rotation
        torch.testing.assert_close(head.pose(numbers, reference).rotation[0], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["rotation-6d", "quaternion-adjugate"])
def test_the_pivot_goes_where_the_numbers_say_whatever_the_turn(name, reference):
    head = HEADS[name]()
    numbers = torch.randn(5, head.size, dtype=torch.float64)
    numbers[:, -3:] = torch.tensor([1.0, -0.5, 1.0], dtype=torch.float64)
    at = head.pose(numbers, reference).apply(reference.pivot[None])[:, 0]
    pixels = reference.intrinsics.project(at)
    camera = reference.intrinsics
    expected = torch.tensor([camera.cx + camera.width / 2, camera.cy - camera.width / 4], dtype=torch.float64)
    torch.testing.assert_close(pixels, expected.expand(5, 2))
    torch.testing.assert_close(at[:, 2], torch.full((5,), 700 * math.exp(DEPTH_FRACTION), dtype=torch.float64))


def test_quaternions_are_scipys():
    rotation = Rotation.random(30, random_state=0)
    x, y, z, w = torch.tensor(rotation.as_quat()).T
    found = rotation_of_quaternion(torch.stack([w, x, y, z], dim=-1))
    torch.testing.assert_close(found, torch.tensor(rotation.as_matrix()))


def test_the_camera_twist_is_the_patient_twist_in_camera_axes(reference):
    start = reference.camera_from_patient
    twist = torch.tensor([3.0, -5.0, 2.0, 0.1, 0.02, -0.2], dtype=torch.float64)
    found = camera_twist(start, retract(start, twist, reference.pivot), reference.pivot)
    expected = torch.cat([start.rotation @ twist[:3], start.rotation @ twist[3:]])
    torch.testing.assert_close(found, expected)


def test_the_patient_covariance_is_that_of_drawn_twists(reference):
    """Errors drawn in camera axes from the factor's Gaussian, told as `retract`'s twists about the pivot."""
    generator = torch.Generator().manual_seed(2)
    sd = torch.tensor([2.0, 3.0, 15.0, 0.03, 0.05, 0.02], dtype=torch.float64)
    lower = torch.eye(6, dtype=torch.float64) + 0.3 * torch.randn(6, 6, generator=generator, dtype=torch.float64).tril(-1)
    factor = lower / sd[:, None]
    turned = retract(
        reference.camera_from_patient, torch.tensor([0, 0, 0, 0.4, -0.3, 0.8], dtype=torch.float64), reference.pivot
    )
    normal = torch.randn(100_000, 6, generator=generator, dtype=torch.float64)
    errors = torch.linalg.solve_triangular(factor.mT, normal.T, upper=True).T
    drawn = torch.cat([errors[:, :3] @ turned.rotation, errors[:, 3:] @ turned.rotation], dim=-1)
    one = RigidTransform(turned.rotation[None], turned.translation[None])
    found = patient_covariance(PoseEstimate(one, factor[None]))[0]
    scale = found.diagonal().sqrt()
    torch.testing.assert_close(torch.cov(drawn.T) / scale[:, None] / scale, found / scale[:, None] / scale, atol=0.02, rtol=0)
    truth = retract(turned, drawn[0], reference.pivot)
    torch.testing.assert_close(camera_twist(turned, truth, reference.pivot), errors[0])


def test_the_log_head_is_the_exponential_of_its_numbers(reference):
    numbers = torch.tensor([[0.1, -0.2, 0.3, 0.2, 0.1, -0.4]], dtype=torch.float64)
    pose = HEADS["se3-log"]().pose(numbers, reference)
    twist = se3.local(reference.camera_from_patient, pose, reference.pivot)
    expected = numbers * torch.tensor([reference.half_field_mm] * 3 + [1.0] * 3, dtype=torch.float64)
    torch.testing.assert_close(twist, expected)
    assert reference.half_field_mm == pytest.approx(0.5 * 300 * 700 / 1020)
