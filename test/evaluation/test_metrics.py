"""Target errors against numbers worked out by hand."""

import math

import pytest
import torch

from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.geometry.pose_sampling import view_pose

CENTRE = torch.tensor([5.0, -3.0, -400.0], dtype=torch.float64)
TRUTH = view_pose(CENTRE, 30.0, 10.0, 5.0, 700.0)


def shifted(x: float, y: float, z: float) -> RigidTransform:
    """The truth, moved along the camera's axes."""
    return RigidTransform(TRUTH.rotation, TRUTH.translation + torch.tensor([x, y, z], dtype=torch.float64))


def points(*offsets: tuple[float, float, float]) -> torch.Tensor:
    """Points given in camera axes about the centre, in patient mm."""
    camera = torch.tensor(offsets, dtype=torch.float64) + torch.tensor([0, 0, 700.0], dtype=torch.float64)
    return TRUTH.inverse().apply(camera)


def test_no_error_is_zero() -> None:
    errors = target_registration_errors(TRUTH, TRUTH, points((0, 0, 0), (30, -20, 10)))
    assert (errors.mtre_mm, errors.in_plane_mm, errors.depth_mm, errors.translation_mm) == (0, 0, 0, 0)
    assert errors.rotation_deg == pytest.approx(0, abs=1e-5)


def test_a_shift_splits_into_plane_and_depth() -> None:
    errors = target_registration_errors(shifted(3, -4, 12), TRUTH, points((0, 0, 0), (50, 20, -30)))
    assert errors.in_plane_mm == pytest.approx(5)
    assert errors.depth_mm == pytest.approx(12)
    assert errors.mtre_mm == pytest.approx(13)
    assert errors.translation_mm == pytest.approx(13)
    assert errors.rotation_deg == pytest.approx(0, abs=1e-5)


def test_depth_errors_of_both_signs_do_not_cancel() -> None:
    """A quarter turn about the camera's y axis through the centre takes (10, 0, 0) to (0, 0, -10), and its opposite back."""
    turn = RigidTransform(so3.exp(torch.tensor([0, math.pi / 2, 0], dtype=torch.float64)), torch.zeros(3).double())
    at_centre = RigidTransform(torch.eye(3).double(), torch.tensor([0, 0, 700.0], dtype=torch.float64))
    estimated = at_centre @ turn @ at_centre.inverse() @ TRUTH
    errors = target_registration_errors(estimated, TRUTH, points((10, 0, 0), (-10, 0, 0)))
    assert errors.in_plane_mm == pytest.approx(10)
    assert errors.depth_mm == pytest.approx(10)
    assert errors.mtre_mm == pytest.approx(10 * math.sqrt(2))
    assert errors.rotation_deg == pytest.approx(90)
    assert errors.translation_mm == pytest.approx(0, abs=1e-9)


def test_the_mean_is_over_points_and_not_of_the_mean_point() -> None:
    """A turn of 0.1 rad about the viewing axis moves points at 10 and 30 mm by 2 r sin(0.05)."""
    turn = RigidTransform(so3.exp(torch.tensor([0, 0, 0.1], dtype=torch.float64)), torch.zeros(3).double())
    errors = target_registration_errors(turn @ TRUTH, TRUTH, points((10, 0, 5), (0, -30, -5)))
    assert errors.mtre_mm == pytest.approx((20 + 60) * math.sin(0.05) / 2)
    assert errors.in_plane_mm == pytest.approx(errors.mtre_mm)
    assert errors.depth_mm == pytest.approx(0, abs=1e-9)
