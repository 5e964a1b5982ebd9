"""From pixels to attenuation: physics recovered, polarity judged, masked pixels decide nothing, empty frames rejected."""

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
from fluoro_reg.xray.preprocessing.polarity import estimate_polarity, polarity_evidence

SIZE = 256


def prepared(pixels, intensity=Intensity.TRANSMITTED, mask=None, **options):
    height, width = pixels.shape
    image = xray_from_pixels(pixels, camera(width, height), intensity, mask)
    return preprocess(image, PreprocessOptions(**options))


def grey(values, bits):
    """Counts as a detector's whole numbers, its range filled to the 99th percentile: air saturates."""
    top = 2**bits - 1
    return np.clip(values / np.quantile(values, 0.99) * top, 0, top).round().astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_logarithm_gives_back_the_line_integrals(bits):
    integrals = line_integrals(SIZE)
    integrals -= integrals.min()
    result = prepared(grey(np.exp(-integrals), bits))
    got, usable = result.image.pixels.numpy(), result.image.mask.numpy()
    # up to the offset of I0, and where a step of grey is less than a tenth of the attenuation's unit
    known = usable & (np.exp(-integrals) * 2**bits > 10) & (integrals > 0.3)
    difference = (got - integrals)[known]
    assert known.mean() > 0.3
    assert np.abs(difference - np.median(difference)).max() < 0.06
    assert result.image.intensity is Intensity.ATTENUATION and got.dtype == np.float32 and np.isfinite(got).all()


def test_exposure_does_not_matter():
    counts = photons(line_integrals(SIZE))
    once, thrice = prepared(counts), prepared(3.7 * counts)
    assert torch.allclose(once.image.pixels, thrice.image.pixels, atol=1e-4)
    assert thrice.i0 == pytest.approx(3.7 * once.i0, rel=1e-5)


def test_dead_pixels_stay_finite_and_a_few_hot_ones_are_not_air():
    counts = photons(line_integrals(SIZE))
    spoiled = counts.copy()
    spoiled[::40, ::40], spoiled[5::50, 7::50] = 0, 1e6
    clean, result = prepared(counts), prepared(spoiled)
    assert torch.isfinite(result.image.pixels).all() and result.image.pixels.abs().max() < 20
    assert result.i0 == pytest.approx(clean.i0, rel=0.1)


def test_numbers_below_zero_are_counted_from_their_least():
    counts = photons(line_integrals(SIZE))
    assert torch.allclose(prepared(counts - counts.min()).image.pixels, prepared(counts - 500).image.pixels, atol=0.5)


def test_attenuation_is_scaled_and_keeps_its_shape():
    integrals = line_integrals(SIZE)
    result = prepared(40 * integrals + 7, Intensity.ATTENUATION)
    assert np.corrcoef(result.image.pixels.numpy().ravel(), integrals.ravel())[0, 1] > 1 - 1e-6
    assert float(result.image.pixels.quantile(0.99)) == pytest.approx(1, abs=0.05)
    assert not result.judged and result.confidence == 1.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("collimated", [False, True])
def test_polarity_is_judged_in_both_directions(seed, collimated):
    counts = photons(line_integrals(SIZE, seed), seed=seed)
    bone_dark = grey(counts * circle(SIZE, 0.46) if collimated else counts, 12).astype(float)
    for pixels, expected in ((bone_dark, Intensity.TRANSMITTED), (4095 - bone_dark, Intensity.ATTENUATION)):
        result = prepared(pixels, Intensity.AUTO)
        assert result.intensity is expected and result.judged
        assert 0.5 < result.confidence <= 1


@pytest.fixture(scope="module")
def pelvis():
    """Line integrals of the phantom's CT along three directions, by sums over voxels."""
    hu, _ = phantom_hu(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0)))
    attenuation = np.clip(hu + 1000, 0, None) / 1000 * 0.02
    oblique = rotate(attenuation, 30, axes=(1, 2), reshape=False, order=1)
    views = [4 * volume.sum(axis=axis) for volume, axis in ((attenuation, 1), (attenuation, 2), (oblique, 1))]
    return [zoom(view, 3, order=1) for view in views]


@pytest.mark.parametrize("view", range(3))
def test_the_polarity_of_a_pelvis_is_judged_from_any_kind_of_numbers(pelvis, view):
    integrals = pelvis[view]
    counts = np.random.default_rng(0).poisson(2e4 * np.exp(-0.8 * integrals) + 200.0)
    transmitted = [np.exp(-integrals), counts, grey(counts, 8), np.sqrt(counts)]
    attenuation = [integrals, np.log(counts.max() / counts), 255 - grey(counts, 8).astype(float)]
    for pixels in transmitted:
        assert prepared(pixels, Intensity.AUTO).intensity is Intensity.TRANSMITTED
    for pixels in attenuation:
        assert prepared(pixels, Intensity.AUTO).intensity is Intensity.ATTENUATION


def test_evidence_is_odd_under_inversion():
    counts = photons(line_integrals(SIZE, 2)) * rectangle(SIZE, 0.1, 0.08, 0.9, 0.95)
    mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    sides = [coarse_image(torch.from_numpy(values.astype(np.float32)), mask) for values in (counts, 3000 - counts)]
    evidence, opposite = (polarity_evidence(side)[0] for side in sides)
    assert evidence.keys() == opposite.keys() and any(abs(value) > 0.5 for value in evidence.values())
    for name, value in evidence.items():
        assert opposite[name] == pytest.approx(-value, abs=0.05), name
    assert estimate_polarity(sides[0]).intensity is not estimate_polarity(sides[1]).intensity


def test_bone_is_brighter_than_its_surroundings_whatever_came_in():
    integrals = line_integrals(SIZE, 3)
    counts = photons(integrals)
    for pixels in (counts, counts.max() - counts, np.sqrt(counts)):
        got = prepared(pixels, Intensity.AUTO).image.pixels.numpy()
        assert np.corrcoef(got.ravel(), integrals.ravel())[0, 1] > 0.8


def test_what_is_masked_decides_nothing():
    counts = photons(line_integrals(SIZE))
    usable = rectangle(SIZE, 0.2, 0.2, 0.8, 0.8)
    results = []
    for filling in (0.0, 5.0, 1e5):
        spoiled = np.where(usable, counts, filling)
        results.append(prepared(spoiled, mask=usable, mask_text=False))
    for result in results[1:]:
        assert not (result.image.mask.numpy() & ~usable).any()
        assert result.i0 == pytest.approx(results[0].i0, rel=1e-6)
        assert torch.allclose(result.image.pixels[usable], results[0].image.pixels[usable], atol=1e-4)


def test_metal_without_photons_is_masked_but_for_its_rim_and_air_is_kept():
    counts = photons(line_integrals(SIZE))
    full_scale = np.quantile(counts, 0.98)
    row, column = np.mgrid[:SIZE, :SIZE]
    air = row < 30 + 10 * np.sin(column / 25)
    plate = rectangle(SIZE, 60 / SIZE, 100 / SIZE, 200 / SIZE, 140 / SIZE)
    pixels = np.where(plate, 0, np.where(air, full_scale, np.minimum(counts, full_scale)))

    def usable(mask_clipped):
        return prepared(pixels, mask_text=False, mask_clipped=mask_clipped).image.mask.numpy()

    bright = pixels >= full_scale  # air, and flanks as thin as it
    deep_plate, deep_air = binary_erosion(plate, iterations=7), binary_erosion(air, iterations=7, border_value=1)
    assert not usable("dense")[deep_plate].any() and usable("dense")[~binary_erosion(plate, iterations=2)].all()
    assert (
        not usable("both")[deep_air].any()
        and usable("both")[~plate & ~binary_erosion(bright, iterations=2, border_value=1)].all()
    )
    assert usable("air")[plate].all() and usable("none").all()


@pytest.mark.parametrize("intensity", [Intensity.TRANSMITTED, Intensity.ATTENUATION])
def test_all_that_a_gradient_sees_of_saturated_air_is_its_outline(intensity):
    counts = photons(line_integrals(SIZE))
    saturated = counts >= np.quantile(counts, 0.7)
    pixels = np.minimum(counts, np.quantile(counts, 0.7))
    result = prepared(pixels if intensity is Intensity.TRANSMITTED else -pixels, intensity, mask_text=False)
    left = (result.image.mask & ~result.outline).numpy()
    region = binary_opening(saturated, iterations=5)  # and not the single pixels that noise brings to the limit
    assert left.mean() > 0.4 and not left[binary_dilation(region, iterations=2)].any()
    assert result.outline.any() and not result.outline[~result.image.mask].any()
    assert not prepared(counts, mask_text=False).outline.any()
    assert not prepared(pixels, mask_text=False, mask_clipped="dense").outline.any()


def test_burnt_in_letters_are_masked_and_anatomy_is_not():
    size = 512
    picture = Image.fromarray((grey(photons(line_integrals(size)), 8) * 0.8).astype(np.uint8))
    before = np.asarray(picture)
    ImageDraw.Draw(picture).text((14, 14), "kV 76  mA 3.1", fill=255, font=ImageFont.load_default(size=16))
    pixels = np.asarray(picture)
    usable, clean = (prepared(x).image.mask.numpy() for x in (pixels, before))
    written = pixels != before
    assert (~usable[written]).mean() > 0.9
    assert usable[60:].mean() > 0.99 and clean.mean() > 0.99
    assert prepared(pixels, mask_text=False).image.mask.numpy().all()


NOISE = np.random.default_rng(0)
SHADING = np.add.outer(np.linspace(1, 0.8, SIZE), -0.15 * np.linspace(-1, 1, SIZE) ** 2)
FRAMES_WITHOUT_ANATOMY = {
    "black": (np.zeros((SIZE, SIZE)), "blank: every pixel is 0"),
    "white": (np.full((SIZE, SIZE), 65535.0), "blank: every pixel is 65535"),
    "electronic noise": (NOISE.normal(600, 30, (SIZE, SIZE)), "no structure"),
    "bright noise": (NOISE.uniform(0, 255, (SIZE, SIZE)), "no structure"),
    "an empty beam": (NOISE.poisson(20000 * SHADING), "blank"),
    "an empty beam with few photons": (NOISE.poisson(50 * SHADING), "no structure"),
    "an empty collimated beam": (NOISE.poisson(5000 * SHADING) * circle(SIZE, 0.4), "blank|no structure"),
    "a saturated frame": (np.where(rectangle(SIZE, 0, 0, 0.04, 1), 100.0, 255.0), "blank|clipped"),
}


@pytest.mark.parametrize("name", FRAMES_WITHOUT_ANATOMY)
@pytest.mark.parametrize("intensity", [Intensity.TRANSMITTED, Intensity.AUTO])
def test_a_frame_without_anatomy_is_rejected_with_a_sentence(name, intensity):
    pixels, sentence = FRAMES_WITHOUT_ANATOMY[name]
    result = prepared(pixels, intensity)
    assert result.rejection is not None and re.search(sentence, result.rejection)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dose", [50, 5000])
def test_anatomy_is_not_rejected_even_at_low_dose(seed, dose):
    assert prepared(photons(line_integrals(SIZE, seed), dose, seed)).rejection is None


def test_a_mask_that_leaves_nothing_is_a_rejection_and_no_crash():
    counts = photons(line_integrals(SIZE))
    nothing = np.zeros((SIZE, SIZE), dtype=bool)
    assert "no pixel" in prepared(counts, mask=nothing).rejection
    sliver = nothing.copy()
    sliver[:, :6] = True
    result = prepared(counts, mask=sliver)
    assert result.rejection is not None and result.usable_fraction < 0.05


@pytest.mark.parametrize("shape", [(17, 40), (33, 250), (96, 96), (301, 187)])
def test_any_size_and_aspect_is_prepared(shape):
    values = gaussian_filter(np.random.default_rng(0).uniform(0, 1, shape), 4)
    result = prepared(values)
    assert result.image.pixels.shape == shape == result.image.mask.shape


def test_the_input_is_left_alone():
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
