"""SO(4) against scipy's matrix exponential and logarithm, at coincident rotations, at -1, and for a growing radius."""

import numpy as np
import pytest
import scipy.linalg
import torch
from helpers import so4

from fluoro_reg.geometry import RigidTransform, se3, so3


def _random(n: int, spread: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return so4.exp(spread * torch.randn(n, 2, 3, generator=generator, dtype=torch.float64))


def _generator(tangent: np.ndarray) -> np.ndarray:
    """Return the skew matrix of x -> a x - x b, the derivative of exp(a s) x conj(exp(b s)) at s = 0."""
    (ax, ay, az), (bx, by, bz) = tangent
    left = np.array([[0, -ax, -ay, -az], [ax, 0, -az, ay], [ay, az, 0, -ax], [az, -ay, ax, 0]])
    right = np.array([[0, -bx, -by, -bz], [bx, 0, bz, -by], [by, -bz, 0, bx], [bz, by, -bx, 0]])
    return left - right


def _squared_distance_by_logm(first: torch.Tensor, second: torch.Tensor) -> float:
    between = so4.matrix(first).numpy().T @ so4.matrix(second).numpy()
    return float(np.linalg.norm(scipy.linalg.logm(between)) ** 2 / 2)


@pytest.mark.parametrize("size", [0.0, 1e-6, 9.9e-3, 1.01e-2, 0.3, 1.5])
def test_the_matrix_of_exp_is_the_matrix_exponential(size):
    tangent = size * torch.randn(2, 3, dtype=torch.float64)
    expected = torch.from_numpy(scipy.linalg.expm(_generator(tangent.numpy())))
    torch.testing.assert_close(so4.matrix(so4.exp(tangent)), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 9.9e-3, 1.01e-2, 0.3, 1.5])
def test_log_inverts_exp_for_angles_below_pi(size):
    tangent = torch.nn.functional.normalize(torch.randn(5, 2, 3, dtype=torch.float64), dim=-1) * size
    torch.testing.assert_close(so4.log(so4.exp(tangent)), tangent, atol=1e-13, rtol=0)


def test_products_of_pairs_are_products_of_matrices():
    a, b = _random(6, 1.0, 1), _random(6, 1.0, 2)
    torch.testing.assert_close(so4.matrix(so4.multiply(a, b)), so4.matrix(a) @ so4.matrix(b), atol=1e-12, rtol=0)
    torch.testing.assert_close(so4.matrix(so4.conjugate(a)), so4.matrix(a).mT)


@pytest.mark.parametrize("spread", [1e-3, 0.1, 0.6, 2.0])
def test_the_distance_is_the_norm_of_the_matrix_logarithm(spread):
    a, b = _random(20, 1.0, 3), _random(20, spread, 4)
    b = so4.multiply(a, b)
    expected = torch.tensor([_squared_distance_by_logm(*pair) for pair in zip(a, b, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(so4.squared_distance(a, b), expected, rtol=1e-8, atol=1e-12)


def test_the_distance_is_invariant_on_both_sides_and_symmetric():
    a, b, c = (_random(20, 1.0, seed) for seed in (5, 6, 7))
    distance = so4.squared_distance(a, b)
    torch.testing.assert_close(so4.squared_distance(so4.multiply(c, a), so4.multiply(c, b)), distance)
    torch.testing.assert_close(so4.squared_distance(so4.multiply(a, c), so4.multiply(b, c)), distance)
    torch.testing.assert_close(so4.squared_distance(b, a), distance)
    torch.testing.assert_close(so4.squared_distance(a, -b), distance)


def test_derivatives_are_correct_and_finite_also_at_coincident_rotations():
    tangents = torch.randn(4, 2, 3, dtype=torch.float64) * torch.tensor([0.0, 1e-4, 0.3, 1.0]).reshape(4, 1, 1)
    base = _random(4, 1.0, 8)

    def squared(tangent: torch.Tensor) -> torch.Tensor:
        return so4.squared_distance(base, so4.multiply(base, so4.exp(tangent)))

    tangents.requires_grad_()
    assert torch.autograd.gradcheck(squared, tangents)
    assert torch.autograd.gradgradcheck(squared, tangents)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda t: squared(t)[0], zero)
    torch.testing.assert_close(hessian.reshape(6, 6), 4 * torch.eye(6, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("wxyz", [[-1.0, 0.0, 0.0, 0.0], [-1.0, 1e-13, 0.0, 0.0], [-1.0, 0.0, 1e-9, 0.0]])
def test_the_distance_to_a_pair_with_one_opposite_quaternion_is_that_of_pi_with_a_finite_gradient(wxyz):
    one = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0]], dtype=torch.float64)
    far = torch.tensor([wxyz, [1.0, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    distance = so4.squared_distance(one, far)
    distance.backward()
    assert float(distance.detach()) == pytest.approx(2 * torch.pi**2, rel=1e-8)
    assert torch.isfinite(far.grad).all()


def test_an_embedded_motion_rotates_the_pole_towards_the_translation():
    t = torch.tensor([30.0, -40.0, 0.0], dtype=torch.float64)
    rotation = so3.exp(torch.tensor([0.3, 0.2, -0.5], dtype=torch.float64))
    rotated = so4.matrix(so4.embed(RigidTransform(rotation, t), radius_mm=100.0))
    angle = 2 * np.arctan(50.0 / 200.0)
    expected = torch.tensor([np.cos(angle), 0.6 * np.sin(angle), -0.8 * np.sin(angle), 0.0], dtype=torch.float64)
    torch.testing.assert_close(rotated[:, 0], expected)
    rotation_only = so4.matrix(so4.embed(RigidTransform(rotation, torch.zeros_like(t)), radius_mm=100.0))
    torch.testing.assert_close(rotation_only[1:, 1:], rotation, atol=1e-14, rtol=0)


def _motions(n: int, seed: int) -> RigidTransform:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([20.0] * 3 + [0.2] * 3, dtype=torch.float64)
    return se3.exp(torch.randn(n, 6, generator=generator, dtype=torch.float64) * scale)


@pytest.mark.parametrize("rotated", [True, False])
def test_the_distance_converges_to_that_of_rotations_and_translations_with_the_square_of_the_radius(rotated):
    first, second = _motions(50, 9), _motions(50, 10)
    if not rotated:
        second = RigidTransform(first.rotation, second.translation)
    angle, shift = so3.angle(first.rotation.mT @ second.rotation), (first.translation - second.translation).norm(dim=-1)
    errors = []
    for radius in (500.0, 1000.0, 2000.0, 4000.0):
        distance = so4.squared_distance(so4.embed(first, radius), so4.embed(second, radius)).sqrt()
        errors.append(float((distance / (angle**2 + (shift / radius) ** 2).sqrt() - 1).abs().max()))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert errors[0] < 0.02
    np.testing.assert_allclose(orders, 2.0, atol=0.2)


def test_the_product_converges_to_that_of_rigid_motions():
    a, b = _motions(50, 11), _motions(50, 12)
    errors_mm = []
    for radius in (1000.0, 2000.0, 4000.0):
        both = so4.squared_distance(so4.multiply(so4.embed(a, radius), so4.embed(b, radius)), so4.embed(a @ b, radius))
        errors_mm.append(float(both.max().sqrt()) * radius)
    np.testing.assert_allclose(np.log2(np.array(errors_mm[:-1]) / np.array(errors_mm[1:])), 1.0, atol=0.2)


def test_the_distance_of_embedded_motions_is_differentiable_with_respect_to_a_twist_at_the_optimum():
    pose = _motions(3, 13)
    pivot = torch.zeros(3, dtype=torch.float64)

    def squared(twist: torch.Tensor) -> torch.Tensor:
        return so4.squared_distance(so4.embed(pose, 300.0), so4.embed(se3.retract(pose, twist, pivot), 300.0))

    assert torch.autograd.gradcheck(squared, torch.zeros(3, 6, dtype=torch.float64, requires_grad=True), atol=1e-6)
