"""Projection, and cameras of cropped, binned and resized images."""

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics

CAMERA = CameraIntrinsics(width=60, height=40, fx=200.0, fy=150.0, cx=31.0, cy=17.5, source_to_detector_mm=1000.0)
POINT = torch.tensor([3.0, -2.0, 80.0], dtype=torch.float64)


def test_projection_follows_the_pinhole_formula():
    torch.testing.assert_close(
        CAMERA.project(POINT), torch.tensor([200 * 3 / 80 + 31, -150 * 2 / 80 + 17.5], dtype=torch.float64)
    )
    homogeneous = CAMERA.matrix() @ POINT
    torch.testing.assert_close(CAMERA.project(POINT), homogeneous[:2] / homogeneous[2])


def test_a_crop_shifts_pixels_by_its_corner():
    torch.testing.assert_close(CAMERA.cropped(5, 7, 20, 20).project(POINT), CAMERA.project(POINT) - torch.tensor([5.0, 7.0]))


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_binning_maps_pixel_edges_to_pixel_edges(factor):
    binned = CAMERA.binned(factor)
    assert (binned.width, binned.height) == (60 // factor, 40 // factor)
    torch.testing.assert_close(binned.project(POINT) + 0.5, (CAMERA.project(POINT) + 0.5) / factor)


@pytest.mark.parametrize(
    ("k", "sentence"),
    [
        ([0.0] * 9, "positive focal lengths"),
        ([float("nan"), 0, 1, 0, 1, 1, 0, 0, 1], "nine finite numbers"),
        ([1, 0, 1, 0, 1, 1, 0, 0], "nine finite numbers"),
        ([1, 0.5, 1, 0, 1, 1, 0, 0, 1], "skew"),
        ([-1, 0, 1, 0, 1, 1, 0, 0, 1], "positive focal lengths"),
    ],
)
def test_a_k_that_is_not_a_pinhole_is_rejected(k, sentence):
    with pytest.raises(InputError, match=sentence):
        CameraIntrinsics.from_k(10, 10, k)
