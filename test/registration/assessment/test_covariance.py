"""Covariances in ROS's order and axes, compared with sampled poses."""

import torch

from fluoro_reg.geometry import retract, se3, so3
from fluoro_reg.registration.assessment.covariance import (
    DEPTH_INFLATION,
    INFLATION,
    position_covariance,
    ros_covariance,
    twist_covariance,
    with_uncertain_turns,
)

PIVOT = torch.tensor([30.0, -200.0, 500.0], dtype=torch.float64)


def _pose():
    return se3.exp(torch.tensor([10.0, 20.0, 700.0, 0.9, -0.4, 0.3], dtype=torch.float64))


def test_the_ros_covariance_is_that_of_sampled_poses():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(6, 6, generator=generator, dtype=torch.float64) * torch.tensor([[0.3] * 3 + [1e-3] * 3]).T
    covariance = factor @ factor.T
    twists = torch.randn(40000, 6, generator=generator, dtype=torch.float64) @ factor.T
    samples = retract(_pose(), twists, PIVOT)
    origin = samples.translation - _pose().translation
    turns = so3.log(samples.rotation @ _pose().rotation.T)
    both = torch.cat([origin, turns], dim=-1)
    sampled = both.T @ both / len(both)
    scale = sampled.diagonal().sqrt()
    difference = (ros_covariance(covariance, _pose(), PIVOT) - sampled) / (scale[:, None] * scale)
    assert difference.abs().max() < 0.03


def test_at_the_pivot_only_the_translation_counts():
    twist = torch.diag(torch.tensor([1.0, 4.0, 9.0, 1e-4, 2e-4, 3e-4], dtype=torch.float64))
    rotation = _pose().rotation
    there = position_covariance(ros_covariance(twist, _pose(), PIVOT), _pose(), PIVOT)
    torch.testing.assert_close(there, rotation @ twist[:3, :3] @ rotation.T)


def test_noise_and_pixels_scale_the_covariance():
    hessian = torch.diag(torch.tensor([1.0, 2.0, 0.1, 50.0, 60.0, 70.0], dtype=torch.float64))
    upright = torch.eye(3, dtype=torch.float64)
    covariance = twist_covariance(hessian, 0.2, 100.0, upright)
    assert torch.isclose(covariance[0, 0], torch.tensor(INFLATION**2 * 0.2 / 100 / 1.0, dtype=torch.float64))
    assert torch.isclose(covariance[2, 2], torch.tensor(DEPTH_INFLATION**2 * 0.2 / 100 / 0.1, dtype=torch.float64))


def test_an_undetermined_direction_has_no_covariance():
    hessian = torch.eye(6, dtype=torch.float64)
    hessian[2, 2] = 0.0
    assert twist_covariance(hessian, 0.1, 100.0, torch.eye(3, dtype=torch.float64)) is None
    hessian[2, 2] = float("nan")
    assert twist_covariance(hessian, 0.1, 100.0, torch.eye(3, dtype=torch.float64)) is None


def test_uncertain_turns_leave_the_position_of_the_pivot_as_it_is():
    factor = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    covariance, wider = factor @ factor.T, with_uncertain_turns(factor @ factor.T, 3.0)
    torch.testing.assert_close(wider[:3, :3], covariance[:3, :3])
    torch.testing.assert_close(wider[3:, 3:], 9 * covariance[3:, 3:])
    torch.testing.assert_close(wider[:3, 3:], 3 * covariance[:3, 3:])
