"""Metrics of embeddings against numpy's arc cosine and rotations, at degenerate embeddings, and by finite differences."""

import numpy as np
import pytest
import torch
from helpers import so4

from fluoro_reg.learned.metrics import METRICS


def _embeddings(seed: int, count: int = 8) -> torch.Tensor:
    return torch.randn(6, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arccos((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))


def _squared(name: str, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    return METRICS[name].residuals(moving, fixed).square().sum(-1)


def test_the_angle_is_the_arc_cosine():
    moving, fixed = _embeddings(0), _embeddings(1)
    found = _squared("angle", moving, fixed).sqrt()
    np.testing.assert_allclose(found.numpy(), _angles(moving.numpy(), fixed.numpy()), rtol=1e-10)


def test_so4_is_the_metric_of_the_double_cover():
    moving, fixed = _embeddings(2, 16), _embeddings(3, 16)
    pairs = [x.numpy().reshape(6, 2, 2, 4) for x in (moving, fixed)]
    expected = 2 * np.square(_angles(*pairs)).sum(-1).mean(-1)
    np.testing.assert_allclose(_squared("so4", moving, fixed).numpy(), expected, rtol=1e-10)


def test_embeddings_that_are_rotations_have_the_distance_on_so4():
    first = so4.exp(torch.randn(6, 2, 3, dtype=torch.float64))
    second = so4.multiply(first, so4.exp(0.3 * torch.randn(6, 2, 3, dtype=torch.float64)))
    found = _squared("so4", second.flatten(1), first.flatten(1))
    torch.testing.assert_close(found, so4.squared_distance(first, second))


def test_the_euclidean_distance_is_the_mean_squared_difference():
    moving, fixed = _embeddings(4), _embeddings(5)
    torch.testing.assert_close(_squared("euclidean", moving, fixed), (moving - fixed).square().mean(-1))


def test_the_angle_is_invariant_to_rotation_and_length_of_embeddings():
    moving, fixed = _embeddings(4), _embeddings(5)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    torch.testing.assert_close(_squared("angle", 3 * moving @ rotation, fixed @ rotation), _squared("angle", moving, fixed))


@pytest.mark.parametrize("name", METRICS)
def test_derivatives_are_finite_at_equal_opposite_and_zero_embeddings(name):
    fixed = _embeddings(6).float()
    moving = torch.cat([fixed[:2], -fixed[2:4], torch.zeros(2, 8)]).requires_grad_()
    distance = _squared(name, moving, fixed)
    (first,) = torch.autograd.grad(distance.sum(), moving, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), moving)
    assert torch.isfinite(distance).all()
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("name", METRICS)
def test_derivatives_of_the_distance_agree_with_finite_differences(name):
    fixed = _embeddings(7)
    moving = torch.cat([fixed[:3], _embeddings(8)[3:]]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: _squared(name, x, fixed), moving)
    assert torch.autograd.gradgradcheck(lambda x: _squared(name, x, fixed), moving)
