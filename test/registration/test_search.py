"""The search finds a shift that was put there."""

import pytest
import torch

from fluoro_reg.registration.search import best_shifts


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 4)])
def test_a_shift_is_found_and_told_in_the_moving_images_sense(shift):
    generator = torch.Generator().manual_seed(0)
    reach = 6
    wide = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 48, 56, generator=generator), 3, stride=1, padding=1)[:, 0]
    du, dv = shift
    fixed = wide[:, reach - dv : 48 - reach - dv, reach - du : 56 - reach - du]  # content moved by (du, dv)
    usable = torch.ones_like(fixed)
    usable[:, :6] = 0
    correlation, found = best_shifts(fixed, usable, wide, torch.ones_like(wide), reach)
    assert found[0].tolist() == [du, dv]
    assert correlation[0] > 0.85


def test_masked_clutter_does_not_mislead():
    generator = torch.Generator().manual_seed(1)
    wide = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 48, 48, generator=generator), 3, stride=1, padding=1)[:, 0]
    fixed = wide[:, 4:44, 4:44].clone()
    usable = torch.ones_like(fixed)
    fixed[:, :, 20:26] += 50.0
    usable[:, :, 18:28] = 0
    assert best_shifts(fixed, usable, wide, torch.ones_like(wide), 4)[1][0].tolist() == [0, 0]
