"""Spherical features against numpy's arc cosine and rotations, at equal and opposite features, and the value in millimetres."""

import numpy as np
import pytest
import torch

from fluoro_reg.geometry import so4
from fluoro_reg.learned.spherical import METRICS, squared_distance

ALL_CELLS = torch.ones(1, 6, dtype=torch.float64)


def _features(seed: int, channels: int = 8) -> torch.Tensor:
    return torch.randn(2, channels, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arccos((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))


def _compared(name: str, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    metric = METRICS[name]
    return metric.residuals(metric.points(moving), metric.points(fixed))


def test_the_angle_of_a_cell_is_the_arc_cosine_of_its_channels():
    moving, fixed = _features(0), _features(1)
    expected = _angles(moving.flatten(2).mT.numpy(), fixed.flatten(2).mT.numpy())
    found = _compared("angle", moving, fixed).norm(dim=-1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_the_pairs_of_a_cell_have_the_metric_of_the_double_cover_of_so4():
    moving, fixed = _features(2, 16), _features(3, 16)
    pairs = [x.flatten(2).mT.numpy().reshape(2, 6, 2, 2, 4) for x in (moving, fixed)]
    expected = 2 * np.square(_angles(*pairs)).sum(-1).mean(-1)
    found = _compared("so4", moving, fixed).square().sum(-1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_features_that_are_rotations_have_the_distance_of_rotations_on_so4():
    first = so4.exp(torch.randn(6, 2, 3, dtype=torch.float64))
    second = so4.multiply(first, so4.exp(0.3 * torch.randn(6, 2, 3, dtype=torch.float64)))
    moving, fixed = (pair.flatten(1).mT.reshape(1, 8, 2, 3) for pair in (second, first))
    found = _compared("so4", moving, fixed).square().sum(-1)
    torch.testing.assert_close(found[0], so4.squared_distance(first, second))


def test_a_rotation_of_all_features_or_their_length_changes_no_distance():
    moving, fixed = _features(4), _features(5)
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    turned = [torch.einsum("dc,bcij->bdij", turn, x) for x in (3.0 * moving, fixed)]
    before, after = _compared("angle", moving, fixed), _compared("angle", *turned)
    torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))


@pytest.mark.parametrize("name", METRICS)
def test_equal_opposite_and_empty_features_have_finite_first_and_second_derivatives(name):
    fixed = _features(6).float()
    moving = torch.stack([fixed[0], -fixed[1]]).clone()
    moving[:, :, 0, 0] = 0
    moving.requires_grad_()
    distance = squared_distance(_compared(name, moving, fixed), ALL_CELLS.float())
    (first,) = torch.autograd.grad(distance.sum(), moving, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), moving)
    assert torch.isfinite(distance).all()
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("name", METRICS)
def test_derivatives_of_the_distance_agree_with_finite_differences(name):
    fixed = _features(7)
    moving = torch.stack([fixed[0], _features(8)[1]]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: squared_distance(_compared(name, x, fixed), ALL_CELLS), moving)
    assert torch.autograd.gradgradcheck(lambda x: squared_distance(_compared(name, x, fixed), ALL_CELLS), moving)


def test_cells_without_weight_have_no_say():
    residuals = _compared("angle", _features(9), _features(10))
    weight = ALL_CELLS.clone()
    weight[:, 3:] = 0
    torch.testing.assert_close(squared_distance(residuals, weight), squared_distance(residuals[:, :3], ALL_CELLS[:, :3]))
    assert squared_distance(residuals, torch.zeros(1, 6, dtype=torch.float64)).tolist() == [0.0, 0.0]
