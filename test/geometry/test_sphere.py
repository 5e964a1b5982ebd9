"""The logarithm map of the sphere against closed forms, at coincident points and at antipodes."""

import math

import pytest
import torch

from fluoro_reg.geometry import sphere

ANGLES = [0.0, 1e-12, 1e-7, 9.9e-3, 1.01e-2, 0.5, 2.0, 3.1, math.pi - 1e-6]


def _circle(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a point and a unit vector perpendicular to it."""
    base, other = torch.randn(2, n, dtype=torch.float64)
    base = base / base.norm()
    other = other - (other @ base) * base
    return base, other / other.norm()


@pytest.mark.parametrize("n", [2, 4, 32])
@pytest.mark.parametrize("angle", ANGLES)
def test_log_returns_the_angle_along_a_great_circle_in_its_direction(angle, n):
    base, direction = _circle(n)
    point = math.cos(angle) * base + math.sin(angle) * direction
    torch.testing.assert_close(sphere.log(base, point), angle * direction, atol=1e-9, rtol=0)


@pytest.mark.parametrize("n", [2, 4, 32])
def test_the_antipode_is_pi_away_in_a_tangent_direction_with_a_finite_gradient(n):
    base = torch.cat([torch.eye(n)[:2], _circle(n)[0].float()[None]])
    antipode = (-base).requires_grad_()
    tangent = sphere.log(base, antipode)
    torch.testing.assert_close(tangent.norm(dim=-1), torch.full((3,), math.pi))
    torch.testing.assert_close((tangent * base).sum(-1), torch.zeros(3), atol=1e-5, rtol=0)
    tangent.square().sum().backward()
    assert torch.isfinite(antipode.grad).all()


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.5, 2.5])
def test_derivatives_are_correct_also_where_the_points_coincide(angle):
    base, direction = _circle(4)
    point = math.cos(angle) * base + math.sin(angle) * direction

    def squared(x: torch.Tensor) -> torch.Tensor:
        return sphere.log(base, sphere.normalise(x)).square().sum()

    x = (2 * point).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sphere.log(base, sphere.normalise(x)), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(squared, x)


def test_small_angles_are_accurate_in_single_precision():
    base, direction = _circle(32)
    for angle in (1e-5, 1e-3, 0.0101):
        point = math.cos(angle) * base + math.sin(angle) * direction
        error = sphere.log(base.float(), sphere.normalise(point.float())).double() - angle * direction
        assert float(error.norm()) < 3e-7


def test_the_zero_vector_becomes_the_first_axis_and_gets_no_gradient():
    x = torch.zeros(3, 5, requires_grad=True)
    unit = sphere.normalise(x)
    assert unit.tolist() == [[1.0, 0, 0, 0, 0]] * 3
    unit.sum().backward()
    assert x.grad.abs().sum() == 0
