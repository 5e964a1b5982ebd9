"""Instruments are found in an X-ray, and left out of its mask."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.instruments import find_instruments
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess, without_instruments
from fluoro_reg.xray.reader import xray_from_pixels

SIZE = 288


def anatomy(noise=0.01):
    """Line integrals of smooth tissue with ridges as narrow as cortex."""
    random = np.random.default_rng(0)
    soft = ndimage.gaussian_filter(random.normal(size=(SIZE, SIZE)), 25)
    cortex = ndimage.gaussian_filter(random.normal(size=(SIZE, SIZE)), 3)
    return 2 + soft / soft.std() * 0.5 + cortex / cortex.std() * 0.05 + noise * random.normal(size=(SIZE, SIZE))


def rod(begin, end, width=8.0):
    """The pixels within half a width of a line, as a mask."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    points, begin, along = np.stack([rows, columns], -1), np.array(begin), np.array(end) - np.array(begin)
    length = np.hypot(*along)
    where = (points - begin) @ along / length
    aside = (points - begin) @ np.array([-along[1], along[0]]) / length
    return (abs(aside) < width / 2) & (where > 0) & (where < length)


def found_in(pixels, mask=None):
    mask = np.ones((SIZE, SIZE), dtype=bool) if mask is None else mask
    return find_instruments(torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(mask)).numpy()


@pytest.mark.parametrize(("begin", "end"), [((60, 60), (180, 220)), ((140, 0), (140, 150)), ((100, 150), (200, 150))])
def test_a_rod_is_found_and_little_else(begin, end):
    tool = rod(begin, end)
    found = found_in(anatomy() + 0.8 * tool)
    assert (found & tool).sum() >= 0.98 * tool.sum()
    assert (found & ~ndimage.binary_dilation(tool, iterations=9)).sum() == 0


def test_anatomy_alone_has_none():
    assert not found_in(anatomy()).any()


def test_noise_alone_has_none():
    assert not found_in(np.random.default_rng(1).normal(size=(SIZE, SIZE))).any()


def test_an_even_image_has_none():
    assert not found_in(np.ones((SIZE, SIZE))).any()


def test_what_is_wide_or_short_or_thin_in_contrast_is_none():
    for shape in (rod((60, 60), (180, 220), width=60), rod((140, 140), (160, 160)), 0.15 * rod((60, 60), (180, 220))):
        assert not found_in(anatomy() + 0.8 * shape).any()


def test_the_rim_of_a_field_is_none():
    field = np.zeros((SIZE, SIZE), dtype=bool)
    field[40:-40, 40:-40] = True
    assert not found_in(anatomy() + 2.0 * rod((44, 44), (44, 240)), field).any()


def test_without_usable_pixels_there_is_none():
    assert not found_in(anatomy(), np.zeros((SIZE, SIZE), dtype=bool)).any()


@pytest.fixture
def xray():
    photons = 20_000 * np.exp(-anatomy() - 0.8 * rod((60, 60), (180, 220)))
    camera = CameraIntrinsics(SIZE, SIZE, 1000.0, 1000.0, SIZE / 2, SIZE / 2)
    return xray_from_pixels(photons.astype(np.uint16), camera, Intensity.TRANSMITTED)


def test_they_are_left_out_of_the_mask_and_nothing_else_changes(xray):
    whole = preprocess(xray, PreprocessOptions())
    without = without_instruments(whole)
    assert without is not None and without.without_instruments and not whole.without_instruments
    assert without.usable_fraction == pytest.approx(float(without.image.mask.float().mean()))
    assert 0.01 < whole.usable_fraction - without.usable_fraction < 0.1
    assert torch.equal(without.image.pixels, whole.image.pixels) and without.reading == whole.reading


def test_there_is_nothing_to_leave_out_of_other_images(xray):
    photons = (20_000 * np.exp(-anatomy())).astype(np.uint16)
    plain = preprocess(xray_from_pixels(photons, xray.intrinsics, Intensity.TRANSMITTED), PreprocessOptions())
    assert without_instruments(plain) is None
    again = without_instruments(preprocess(xray, PreprocessOptions()))
    assert again is not None and without_instruments(again) is None
