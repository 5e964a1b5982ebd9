"""Rigid motions against the matrix exponential, including angles at zero, near zero and near pi."""

import pytest
import torch

from fluoro_reg.geometry import RigidTransform, retract, se3, so3

ANGLES = [0.0, 1e-9, 1e-4, 0.01, 0.0999, 0.1001, 1.0, 3.0, 3.14159]


def _twist(angle: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    twist = torch.randn(6, generator=generator, dtype=torch.float64) * 10
    twist[3:] *= angle / twist[3:].norm()
    return twist


def _generator_matrix(twist: torch.Tensor) -> torch.Tensor:
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = so3.hat(twist[3:]), twist[:3]
    return matrix


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_is_the_matrix_exponential(angle):
    twist = _twist(angle)
    torch.testing.assert_close(se3.exp(twist).matrix(), torch.matrix_exp(_generator_matrix(twist)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_log_inverts_exp(angle):
    twist = _twist(angle)
    torch.testing.assert_close(se3.log(se3.exp(twist)), twist, atol=1e-9, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.1, 2.0])
def test_derivatives_of_exp_and_log_agree_with_finite_differences(angle):
    twist = _twist(angle).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda t: se3.exp(t).matrix(), twist)
    assert torch.autograd.gradcheck(lambda t: se3.log(se3.exp(t)), twist)


def test_log_recovers_rotations_by_pi_about_every_axis():
    for axis in torch.eye(3, dtype=torch.float64):
        rotation = 2 * torch.outer(axis, axis) - torch.eye(3)
        assert so3.angle(rotation) == pytest.approx(torch.pi, abs=1e-12)
        torch.testing.assert_close(so3.exp(so3.log(rotation)), rotation, atol=1e-12, rtol=0)


def test_retract_rotates_about_the_pivot():
    pivot = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)
    start = se3.exp(_twist(1.0, 1))
    rotated = retract(start, torch.tensor([0.0, 0.0, 0.0, 0.3, -0.2, 0.1], dtype=torch.float64), pivot)
    torch.testing.assert_close(rotated.apply(pivot[None]), start.apply(pivot[None]))
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = pivot
    twist = _twist(0.7, 2)
    expected = start.matrix() @ shift @ torch.matrix_exp(_generator_matrix(twist)) @ torch.linalg.inv(shift)
    torch.testing.assert_close(retract(start, twist, pivot).matrix(), expected)


def test_local_inverts_retract_for_a_batch():
    pivot = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    start = se3.exp(torch.stack([_twist(0.4, 3), _twist(1.4, 4)]))
    twists = torch.stack([_twist(0.2, 5), _twist(0.0, 6)])
    torch.testing.assert_close(se3.local(start, retract(start, twists, pivot), pivot), twists, atol=1e-9, rtol=0)


def test_products_and_inverses_of_transforms():
    b_from_a, c_from_b = se3.exp(_twist(0.5, 7)), se3.exp(_twist(1.5, 8))
    points = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close((c_from_b @ b_from_a).apply(points), c_from_b.apply(b_from_a.apply(points)))
    torch.testing.assert_close((b_from_a.inverse() @ b_from_a).matrix(), RigidTransform.identity().matrix(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", [*ANGLES, torch.pi])
def test_numpy_and_torch_give_the_same(angle):
    """Values without a gradient are computed in NumPy, the others in torch."""
    pivot, start = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64), se3.exp(_twist(1.0, 1))
    twists = torch.stack([_twist(angle, seed) for seed in range(4)])
    plain, followed = retract(start, twists, pivot), retract(start, twists.clone().requires_grad_(True), pivot)
    assert followed.rotation.requires_grad
    assert not plain.rotation.requires_grad
    torch.testing.assert_close(plain.matrix(), followed.matrix().detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        se3.exp(twists).matrix(), se3.exp(twists.requires_grad_(True)).matrix().detach(), atol=1e-12, rtol=0
    )
    between = se3.local(start, plain, pivot)
    assert not between.requires_grad
    torch.testing.assert_close(between, se3.local(start, followed, pivot).detach(), atol=1e-9, rtol=0)
    assert se3.local(start, start, pivot).abs().max() < 1e-12
