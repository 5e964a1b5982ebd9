"""Instruments are found in an X-ray, and left out in a reading of their own."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.continued import read_again
from fluoro_reg.xray.preprocessing.instruments import find_instruments
from fluoro_reg.xray.preprocessing.preprocess import (
    PreprocessOptions,
    preprocess_reading,
    preprocess_readings,
    with_instruments_left_out,
)
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


def test_they_are_left_out_in_a_reading_beside_the_others(xray):
    prepared = preprocess_readings(xray, PreprocessOptions())
    whole, *_, without = with_instruments_left_out(prepared)
    assert whole is prepared[0] and len(with_instruments_left_out(prepared)) == 2 * len(prepared)
    assert without.reading == f"{prepared[-1].reading} without instruments"
    assert without.usable_fraction == pytest.approx(float(without.image.mask.float().mean()))
    assert 0.01 < whole.usable_fraction - without.usable_fraction < 0.1
    assert torch.equal(without.image.pixels, prepared[-1].image.pixels)


def test_an_image_without_them_has_no_other_readings():
    camera = CameraIntrinsics(SIZE, SIZE, 1000.0, 1000.0, SIZE / 2, SIZE / 2)
    image = xray_from_pixels((20_000 * np.exp(-anatomy())).astype(np.uint16), camera, Intensity.TRANSMITTED)
    prepared = preprocess_readings(image, PreprocessOptions())
    assert with_instruments_left_out(prepared) == list(prepared)


def test_a_stream_is_read_on_without_them(xray):
    options = PreprocessOptions()
    without = with_instruments_left_out(preprocess_readings(xray, options))[-1]
    coarse = coarse_image(xray.pixels, xray.mask)
    known = read_again(xray, coarse, without.reading, options, None)
    assert known is not None
    again = preprocess_reading(xray, coarse, known.reading, options)
    assert again.reading == without.reading and torch.equal(again.image.mask, without.image.mask)
