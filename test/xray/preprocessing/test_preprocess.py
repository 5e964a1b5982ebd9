"""Preprocessing: attenuation, inferred polarity, the independence of masked pixels, and rejected frames."""

import re

import numpy as np
import pytest
import torch
from helpers.xray_images import camera, circle, line_integrals, photons, rectangle
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion, binary_opening, gaussian_filter, rotate, zoom

from fluoro_reg.config import from_mapping, walk_options
from fluoro_reg.errors import InputError
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu
from fluoro_reg.xray import Intensity, PreprocessOptions, preprocess, xray_from_pixels
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.field import find_field
from fluoro_reg.xray.preprocessing.polarity import estimate_polarity, polarity_evidence

SIZE = 256


def preprocess_pixels(pixels, intensity=Intensity.TRANSMITTED, mask=None, **options):
    height, width = pixels.shape
    image = xray_from_pixels(pixels, camera(width, height), intensity, mask)
    return preprocess(image, PreprocessOptions(**options))


def quantise(values, bits):
    """Quantise counts as a detector does, with saturation above the 99th percentile."""
    top = 2**bits - 1
    return np.clip(values / np.quantile(values, 0.99) * top, 0, top).round().astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_logarithm_recovers_the_line_integrals(bits):
    integrals = line_integrals(SIZE)
    integrals -= integrals.min()
    result = preprocess_pixels(quantise(np.exp(-integrals), bits))
    found, usable = result.image.pixels.numpy(), result.image.mask.numpy()
    # up to the offset of I0, and where the quantisation error of the attenuation is small
    known = usable & (np.exp(-integrals) * 2**bits > 10) & (integrals > 0.3)
    difference = (found - integrals)[known]
    assert known.mean() > 0.3
    assert np.abs(difference - np.median(difference)).max() < 0.06
    assert result.image.intensity is Intensity.ATTENUATION and found.dtype == np.float32 and np.isfinite(found).all()


def test_the_result_does_not_depend_on_exposure():
    counts = photons(line_integrals(SIZE))
    first, brighter = preprocess_pixels(counts), preprocess_pixels(3.7 * counts)
    assert torch.allclose(first.image.pixels, brighter.image.pixels, atol=1e-4)
    assert brighter.i0 == pytest.approx(3.7 * first.i0, rel=1e-5)


def test_dead_pixels_give_finite_values_and_a_few_hot_pixels_are_not_used_as_air():
    counts = photons(line_integrals(SIZE))
    corrupted = counts.copy()
    corrupted[::40, ::40], corrupted[5::50, 7::50] = 0, 1e6
    clean, result = preprocess_pixels(counts), preprocess_pixels(corrupted)
    assert torch.isfinite(result.image.pixels).all() and result.image.pixels.abs().max() < 20
    assert result.i0 == pytest.approx(clean.i0, rel=0.1)


def test_the_minimum_is_subtracted_from_negative_values():
    counts = photons(line_integrals(SIZE))
    assert torch.allclose(
        preprocess_pixels(counts - counts.min()).image.pixels, preprocess_pixels(counts - 500).image.pixels, atol=0.5
    )


def test_attenuation_is_only_scaled_and_shifted():
    integrals = line_integrals(SIZE)
    result = preprocess_pixels(40 * integrals + 7, Intensity.ATTENUATION)
    assert np.corrcoef(result.image.pixels.numpy().ravel(), integrals.ravel())[0, 1] > 1 - 1e-6
    assert float(result.image.pixels.quantile(0.99)) == pytest.approx(1, abs=0.05)
    assert not result.intensity_inferred and result.intensity_confidence == 1.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("collimated", [False, True])
def test_both_polarities_are_inferred(seed, collimated):
    counts = photons(line_integrals(SIZE, seed), seed=seed)
    bone_dark = quantise(counts * circle(SIZE, 0.46) if collimated else counts, 12).astype(float)
    for pixels, expected in ((bone_dark, Intensity.TRANSMITTED), (4095 - bone_dark, Intensity.ATTENUATION)):
        result = preprocess_pixels(pixels, Intensity.AUTO)
        assert result.intensity is expected and result.intensity_inferred
        assert 0.5 < result.intensity_confidence <= 1


@pytest.fixture(scope="module")
def pelvis():
    """Return line integrals of the phantom along three directions, as sums over voxels."""
    hu, _ = phantom_hu(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0)))
    attenuation = np.clip(hu + 1000, 0, None) / 1000 * 0.02
    oblique = rotate(attenuation, 30, axes=(1, 2), reshape=False, order=1)
    views = [4 * volume.sum(axis=axis) for volume, axis in ((attenuation, 1), (attenuation, 2), (oblique, 1))]
    return [zoom(view, 3, order=1) for view in views]


@pytest.mark.parametrize("view", range(3))
def test_the_polarity_of_a_pelvis_is_inferred_for_any_grey_scale(pelvis, view):
    integrals = pelvis[view]
    counts = np.random.default_rng(0).poisson(2e4 * np.exp(-0.8 * integrals) + 200.0)
    transmitted = [np.exp(-integrals), counts, quantise(counts, 8), np.sqrt(counts)]
    attenuation = [integrals, np.log(counts.max() / counts), 255 - quantise(counts, 8).astype(float)]
    for pixels in transmitted:
        assert preprocess_pixels(pixels, Intensity.AUTO).intensity is Intensity.TRANSMITTED
    for pixels in attenuation:
        assert preprocess_pixels(pixels, Intensity.AUTO).intensity is Intensity.ATTENUATION


def test_evidence_is_odd_under_inversion():
    counts = photons(line_integrals(SIZE, 2)) * rectangle(SIZE, 0.1, 0.08, 0.9, 0.95)
    mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    images = [coarse_image(torch.from_numpy(values.astype(np.float32)), mask) for values in (counts, 3000 - counts)]
    fields = [(find_field(i.mean, i.usable), find_field(i.mean, i.usable, inverted=True)) for i in images]
    evidence, opposite = (polarity_evidence(image, *found) for image, found in zip(images, fields, strict=True))
    assert evidence.keys() == opposite.keys() and any(abs(value) > 0.5 for value in evidence.values())
    for name, value in evidence.items():
        assert opposite[name] == pytest.approx(-value, abs=0.05), name
    first, second = (estimate_polarity(image, *found).intensity for image, found in zip(images, fields, strict=True))
    assert first is not second


def test_bone_is_bright_for_any_input():
    integrals = line_integrals(SIZE, 3)
    counts = photons(integrals)
    for pixels in (counts, counts.max() - counts, np.sqrt(counts)):
        found = preprocess_pixels(pixels, Intensity.AUTO).image.pixels.numpy()
        assert np.corrcoef(found.ravel(), integrals.ravel())[0, 1] > 0.8


def test_masked_pixels_do_not_affect_the_result():
    counts = photons(line_integrals(SIZE))
    usable = rectangle(SIZE, 0.2, 0.2, 0.8, 0.8)
    results = []
    for filling in (0.0, 5.0, 1e5):
        corrupted = np.where(usable, counts, filling)
        results.append(preprocess_pixels(corrupted, mask=usable, mask_text=False))
    for result in results[1:]:
        assert not (result.image.mask.numpy() & ~usable).any()
        assert result.i0 == pytest.approx(results[0].i0, rel=1e-6)
        assert torch.allclose(result.image.pixels[usable], results[0].image.pixels[usable], atol=1e-4)


def test_clipped_metal_and_air_are_masked_except_for_their_rims():
    counts = photons(line_integrals(SIZE))
    full_scale = np.quantile(counts, 0.98)
    row, column = np.mgrid[:SIZE, :SIZE]
    air = row < 30 + 10 * np.sin(column / 25)
    plate = rectangle(SIZE, 60 / SIZE, 100 / SIZE, 200 / SIZE, 140 / SIZE)
    pixels = np.where(plate, 0, np.where(air, full_scale, np.minimum(counts, full_scale)))

    def usable(mask_clipped):
        return preprocess_pixels(pixels, mask_text=False, mask_clipped=mask_clipped).image.mask.numpy()

    bright = pixels >= full_scale  # air, and equally thin parts of the body
    plate_interior, air_interior = binary_erosion(plate, iterations=7), binary_erosion(air, iterations=7, border_value=1)
    assert not usable("dense")[plate_interior].any() and usable("dense")[~binary_erosion(plate, iterations=2)].all()
    assert (
        not usable("both")[air_interior].any()
        and usable("both")[~plate & ~binary_erosion(bright, iterations=2, border_value=1)].all()
    )
    assert usable("air")[plate].all() and usable("none").all()


@pytest.mark.parametrize("intensity", [Intensity.TRANSMITTED, Intensity.ATTENUATION])
def test_no_gradient_depends_on_saturated_air_outside_the_outline(intensity):
    counts = photons(line_integrals(SIZE))
    saturated = counts >= np.quantile(counts, 0.7)
    pixels = np.minimum(counts, np.quantile(counts, 0.7))
    result = preprocess_pixels(pixels if intensity is Intensity.TRANSMITTED else -pixels, intensity, mask_text=False)
    remaining = (result.image.mask & ~result.outline).numpy()
    region = binary_opening(saturated, iterations=5)  # without the single pixels that noise saturates
    assert remaining.mean() > 0.4 and not remaining[binary_dilation(region, iterations=2)].any()
    assert result.outline.any() and not result.outline[~result.image.mask].any()
    assert not preprocess_pixels(counts, mask_text=False).outline.any()
    assert not preprocess_pixels(pixels, mask_text=False, mask_clipped="dense").outline.any()


def test_burnt_in_letters_are_masked_and_anatomy_is_not():
    size = 512
    image = Image.fromarray((quantise(photons(line_integrals(size)), 8) * 0.8).astype(np.uint8))
    before = np.asarray(image)
    ImageDraw.Draw(image).text((14, 14), "kV 76  mA 3.1", fill=255, font=ImageFont.load_default(size=16))
    pixels = np.asarray(image)
    usable, clean = (preprocess_pixels(x).image.mask.numpy() for x in (pixels, before))
    text = pixels != before
    assert (~usable[text]).mean() > 0.9
    assert usable[60:].mean() > 0.99 and clean.mean() > 0.99
    assert preprocess_pixels(pixels, mask_text=False).image.mask.numpy().all()


NOISE = np.random.default_rng(0)
SHADING = np.add.outer(np.linspace(1, 0.8, SIZE), -0.15 * np.linspace(-1, 1, SIZE) ** 2)
FRAMES_WITHOUT_ANATOMY = {
    "black": (np.zeros((SIZE, SIZE)), "blank: every pixel is 0"),
    "white": (np.full((SIZE, SIZE), 65535.0), "blank: every pixel is 65535"),
    "electronic noise": (NOISE.normal(600, 30, (SIZE, SIZE)), "without structure"),
    "bright noise": (NOISE.uniform(0, 255, (SIZE, SIZE)), "without structure"),
    "an empty beam": (NOISE.poisson(20000 * SHADING), "blank"),
    "an empty beam with few photons": (NOISE.poisson(50 * SHADING), "without structure"),
    "an empty collimated beam": (NOISE.poisson(5000 * SHADING) * circle(SIZE, 0.4), "blank|without structure"),
    "a saturated frame": (np.where(rectangle(SIZE, 0, 0, 0.04, 1), 100.0, 255.0), "blank|clipped"),
}


@pytest.mark.parametrize("name", FRAMES_WITHOUT_ANATOMY)
@pytest.mark.parametrize("intensity", [Intensity.TRANSMITTED, Intensity.AUTO])
def test_a_frame_without_anatomy_is_rejected_with_a_reason(name, intensity):
    pixels, sentence = FRAMES_WITHOUT_ANATOMY[name]
    result = preprocess_pixels(pixels, intensity)
    assert result.rejection is not None and re.search(sentence, result.rejection)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dose", [50, 5000])
def test_anatomy_is_not_rejected_even_at_low_dose(seed, dose):
    assert preprocess_pixels(photons(line_integrals(SIZE, seed), dose, seed)).rejection is None


def test_a_frame_with_too_few_usable_pixels_is_rejected():
    counts = photons(line_integrals(SIZE))
    empty = np.zeros((SIZE, SIZE), dtype=bool)
    assert "no pixel" in preprocess_pixels(counts, mask=empty).rejection
    narrow = empty.copy()
    narrow[:, :6] = True
    result = preprocess_pixels(counts, mask=narrow)
    assert result.rejection is not None and result.usable_fraction < 0.05


@pytest.mark.parametrize("shape", [(17, 40), (33, 250), (96, 96), (301, 187)])
def test_images_of_any_size_and_aspect_are_preprocessed(shape):
    values = gaussian_filter(np.random.default_rng(0).uniform(0, 1, shape), 4)
    result = preprocess_pixels(values)
    assert result.image.pixels.shape == shape == result.image.mask.shape


def test_the_input_is_not_modified():
    image = xray_from_pixels(photons(line_integrals(SIZE)), camera(SIZE, SIZE), Intensity.AUTO)
    before, mask = image.pixels.clone(), image.mask.clone()
    preprocess(image, PreprocessOptions())
    assert torch.equal(image.pixels, before) and torch.equal(image.mask, mask)


def test_options_are_documented_and_strict():
    assert all(info.doc for info in walk_options(PreprocessOptions))
    with pytest.raises(InputError, match="did you mean 'mask_text'"):
        from_mapping(PreprocessOptions, {"mask_txt": True})
    with pytest.raises(InputError, match="must be one of none, dense, air, both"):
        from_mapping(PreprocessOptions, {"mask_clipped": "all"})
