"""Calibration: distances in mm from values, and a factor that is learned in spite of outliers."""

import pytest
import torch

from fluoro_reg.learned import Calibration


def test_the_predicted_distance_is_zero_at_zero_and_grows_with_the_value():
    calibration = Calibration(per_mm=0.05)
    squared = torch.linspace(0, 1.0, 50).square().requires_grad_()
    mm = calibration.distance_mm(squared)
    (slope,) = torch.autograd.grad(mm.sum(), squared)
    assert float(mm[0].detach()) == 0.0
    assert float(mm[-1].detach()) == pytest.approx(20.0, rel=2e-3)
    assert (mm.diff() > 0).all()
    assert torch.isfinite(slope).all()


def test_the_factor_is_learned_from_distances_in_spite_of_outliers():
    torch.manual_seed(1)
    truth_mm = 30 * torch.rand(200)
    rad = 0.013 * truth_mm * (1 + 0.05 * torch.randn(200))
    rad[:10] = 1.0
    by_least_squares = rad.square().sum() / (rad * truth_mm).sum()
    assert by_least_squares > 0.02
    calibration = Calibration()
    optimiser = torch.optim.Adam(calibration.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        calibration.loss_mm(rad.square(), truth_mm).mean().backward()
        optimiser.step()
    assert float(calibration.log_per_mm.detach().exp()) == pytest.approx(0.013, rel=0.1)


def test_the_loss_of_large_errors_is_the_error_less_half_the_threshold():
    calibration = Calibration(per_mm=0.02, huber_mm=5.0)
    rad = torch.tensor([0.401, 0.101, 0.401])  # 20, 5 and 20 mm with the smoothing
    loss = calibration.loss_mm(rad.square() - 1e-6, torch.tensor([20.0, 30.0, 22.0]))
    torch.testing.assert_close(loss, torch.tensor([0.0, 22.5, 0.4]), atol=1e-4, rtol=0)
