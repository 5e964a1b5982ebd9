"""The field of a collimator: found accurately in both polarities, and not found where there is only anatomy."""

import numpy as np
import pytest
import torch
from helpers.xray_images import camera, circle, line_integrals, photons, rectangle
from scipy.ndimage import gaussian_filter

from fluoro_reg.xray import Intensity, PreprocessOptions, preprocess, xray_from_pixels
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.field import find_field

SIZE = 384


def rotated_square(angle, half):
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    c, s = np.cos(angle), np.sin(angle)
    return (np.abs(c * x + s * y) < half) & (np.abs(c * y - s * x) < half)


FIELDS = {
    "circle": circle(SIZE, 0.45),
    "circle cut by the image": circle(SIZE, 0.55),
    "rectangle": rectangle(SIZE, 0.1, 0.15, 0.85, 0.9),
    "two bars": rectangle(SIZE, 0, 0.12, 1, 0.88),
    "rotated square": rotated_square(0.3, 0.7),
    "circle with blades": circle(SIZE, 0.47) & rectangle(SIZE, 0.2, 0, 0.8, 1),
}


def collimated_counts(field, seed=0, leak=0.0):
    """Return counts behind a body and a collimator with a soft edge; `leak` is the scatter outside the field."""
    counts = photons(line_integrals(SIZE, seed), seed=seed)
    transmission = gaussian_filter(field.astype(float), 0.8)
    return counts * transmission + leak * gaussian_filter(counts, SIZE / 12) * (1 - transmission)


def mask_of(pixels, intensity):
    """Return the mask without masking open air, which is clipped here, so that only the field matters."""
    options = PreprocessOptions(mask_clipped="dense")
    return preprocess(xray_from_pixels(pixels, camera(SIZE, SIZE), intensity), options).image.mask.numpy()


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("leak", [0.0, 0.02])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_outside_is_masked_and_the_inside_is_not(name, leak, inverted):
    field = FIELDS[name]
    counts = collimated_counts(field, leak=leak)
    pixels, intensity = (counts.max() - counts, Intensity.ATTENUATION) if inverted else (counts, Intensity.TRANSMITTED)
    usable = mask_of(pixels, intensity)
    assert (usable & ~field).sum() < 0.002 * field.size
    interior = gaussian_filter(field.astype(float), 0.02 * SIZE) > 0.99
    assert (~usable & interior).sum() < 0.03 * interior.sum()


@pytest.mark.parametrize("seed", range(8))
def test_without_a_collimator_nothing_is_masked(seed):
    counts = photons(line_integrals(SIZE, seed), seed=seed)
    for pixels, intensity in ((counts, Intensity.TRANSMITTED), (counts.max() - counts, Intensity.ATTENUATION)):
        assert mask_of(pixels, intensity).mean() > 0.99


@pytest.mark.parametrize("seed", range(6))
def test_a_body_in_air_is_not_a_collimated_field(seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    radii = rng.uniform(0.4, 0.9, 2)
    integrals = 4 * np.sqrt(np.clip(1 - (x / radii[0]) ** 2 - (y / radii[1]) ** 2, 0, None))
    for pixels, intensity in ((np.exp(-integrals), Intensity.TRANSMITTED), (integrals, Intensity.ATTENUATION)):
        assert mask_of(pixels, intensity).all()


def test_a_box_in_air_is_not_a_painted_shutter():
    box = np.where(rectangle(SIZE, 0.2, 0.25, 0.75, 0.8), np.linspace(2.0, 2.02, SIZE), 0.0)
    assert mask_of(box, Intensity.ATTENUATION).all()
    assert mask_of(np.exp(-box), Intensity.TRANSMITTED).all()


def test_a_shutter_painted_black_over_bright_bones_is_found():
    integrals = line_integrals(SIZE)
    field = FIELDS["rectangle"]
    usable = mask_of(np.where(field, 1 + integrals, 0), Intensity.ATTENUATION)
    assert not (usable & ~field).any() and usable.sum() > 0.85 * field.sum()


def test_letters_outside_the_field_do_not_enlarge_it():
    field = FIELDS["circle"]
    counts = collimated_counts(field)
    counts[8:20, 10:16], counts[8:20, 20:22], counts[8:20, 26:30] = (counts.max(),) * 3
    assert not (mask_of(counts, Intensity.TRANSMITTED) & ~field).any()


def test_the_margin_is_that_of_the_options():
    image = xray_from_pixels(collimated_counts(FIELDS["circle"]), camera(SIZE, SIZE), Intensity.TRANSMITTED)
    fractions = [
        preprocess(image, PreprocessOptions(field_margin=m, mask_text=False)).usable_fraction for m in (0.0, 0.02, 0.05)
    ]
    radii = [np.sqrt(fraction / np.pi) for fraction in fractions]
    assert radii[0] - radii[1] == pytest.approx(0.02, abs=0.003) and radii[0] - radii[2] == pytest.approx(0.05, abs=0.003)
    without_field = preprocess(image, PreprocessOptions(find_collimator=False, mask_text=False, mask_clipped="none"))
    assert without_field.usable_fraction == 1.0


def test_the_mask_of_half_planes_agrees_with_a_test_of_every_pixel():
    pixels = torch.from_numpy(collimated_counts(FIELDS["rotated square"]).astype(np.float32))
    coarse = coarse_image(pixels, torch.ones_like(pixels, dtype=torch.bool))
    field = find_field(coarse.mean, coarse.usable)
    assert field is not None
    row, column = ((np.indices((SIZE, SIZE)) + 0.5) / coarse.factor - 0.5).reshape(2, -1)
    inside = (np.stack([row, column, np.ones_like(row)], -1) @ field.planes.T <= -1.5).all(1).reshape(SIZE, SIZE)
    assert np.array_equal(field.mask(SIZE, SIZE, coarse.factor, 1.5), inside)
