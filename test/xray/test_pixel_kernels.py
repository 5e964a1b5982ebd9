"""Binning against torch's pooling, and the smallest step of grey values."""

import numpy as np
import pytest
import torch

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.pixel_kernels import smallest_gap


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_a_block_is_the_mean_of_its_usable_pixels(factor: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels, mask = torch.rand(33, 47, generator=generator), torch.rand(33, 47, generator=generator) > 0.5
    pixels[0, 0], mask[0, 0] = torch.nan, False
    mask[10:20, 10:20] = False
    binned = XrayImage(pixels, CameraIntrinsics(47, 33, 100.0, 100.0, 23.0, 16.0), Intensity.ATTENUATION, mask).binned(factor)
    pooled = [
        torch.nn.functional.avg_pool2d(x[None, None].double(), factor)[0, 0]
        for x in (pixels.nan_to_num(0.0) * mask, mask.double())
    ]
    assert torch.equal(binned.mask, pooled[1] >= 0.5)
    expected = pooled[0] / pooled[1].clamp_min(1e-6)
    torch.testing.assert_close(binned.pixels[binned.mask].double(), expected[binned.mask], rtol=1e-6, atol=0)
    assert factor == 1 or torch.isfinite(binned.pixels).all()
    assert (binned.intrinsics.width, binned.intrinsics.height) == (47 // factor, 33 // factor)


def test_the_smallest_gap_ignores_equal_values() -> None:
    assert smallest_gap(np.array([1.0, 1.0, 4.0, 4.5, 9.0], np.float32)) == 0.5
    assert smallest_gap(np.array([3.0, 3.0], np.float32)) == 0.0
    assert smallest_gap(np.zeros(0, np.float32)) == 0.0
