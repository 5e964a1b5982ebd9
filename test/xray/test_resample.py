"""Resampling to another camera: a landmark appears at its projection."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.xray_images import camera

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray import Intensity, XrayImage, resample

SOURCE = CameraIntrinsics(200, 160, 800.0, 760.0, 103.0, 71.5, 1000.0)
POINT = torch.tensor([18.0, -12.0, 900.0], dtype=torch.float64)


def blob_image(intrinsics: CameraIntrinsics, point: torch.Tensor, width_px: float) -> XrayImage:
    u, v = intrinsics.project(point).tolist()
    row, column = np.mgrid[: intrinsics.height, : intrinsics.width]
    pixels = np.exp(-0.5 * ((row - v) ** 2 + (column - u) ** 2) / width_px**2).astype(np.float32)
    mask = torch.ones(pixels.shape, dtype=torch.bool)
    return XrayImage(torch.from_numpy(pixels), intrinsics, Intensity.ATTENUATION, mask)


def centre(image: XrayImage) -> tuple[float, float]:
    weight = (image.pixels * image.mask).double()
    row, column = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in weight.shape), indexing="ij")
    return float((weight * column).sum() / weight.sum()), float((weight * row).sum() / weight.sum())


@pytest.mark.parametrize(
    "target",
    [
        SOURCE,
        SOURCE.resized(400, 320),
        SOURCE.resized(100, 80),
        SOURCE.cropped(30, 10, 150, 120),
        CameraIntrinsics(180, 150, 500.0, 700.0, 80.25, 66.5),
        CameraIntrinsics(60, 50, 220.0, 230.0, 28.0, 24.0),
    ],
)
def test_a_landmark_appears_at_its_projection(target):
    found = centre(resample(blob_image(SOURCE, POINT, 6.0), target))
    assert found == pytest.approx(target.project(POINT).tolist(), abs=0.02)


def test_resampling_to_the_same_camera_changes_nothing():
    image = blob_image(SOURCE, POINT, 3.0)
    same = resample(image, SOURCE)
    assert torch.allclose(same.pixels, image.pixels, atol=1e-5) and bool(same.mask.all())


def test_downsampling_averages_without_aliasing():
    stripes = torch.zeros(120, 120)
    stripes[:, ::2] = 1.0
    image = XrayImage(stripes, camera(120, 120), Intensity.ATTENUATION, torch.ones(120, 120, dtype=torch.bool))
    assert torch.allclose(resample(image, camera(120, 120).resized(30, 30)).pixels, torch.tensor(0.5), atol=1e-5)


def test_pixels_outside_the_image_and_masked_pixels_are_not_usable():
    image = blob_image(SOURCE, POINT, 6.0)
    mask = image.mask.clone()
    mask[:, :50] = False
    corrupted = torch.where(mask, image.pixels, torch.full((), 1e6))
    wide = dataclasses.replace(SOURCE, width=240, height=200, cx=SOURCE.cx + 20, cy=SOURCE.cy + 20)
    resampled = resample(XrayImage(corrupted, SOURCE, image.intensity, mask), wide)
    assert not resampled.mask[:, :70].any() and not resampled.mask[:20].any() and not resampled.mask[180:].any()
    assert bool(resampled.mask[20:180, 70:220].all())
    assert resampled.pixels[resampled.mask].max() <= 1.0
