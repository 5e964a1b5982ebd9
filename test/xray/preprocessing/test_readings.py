"""Readings of an X-ray: one where a rule is certain, and the right one among several where a rule was fooled."""

import numpy as np
import pytest
import torch
from helpers.xray_images import camera, circle, line_integrals, photons
from scipy.ndimage import gaussian_filter

from fluoro_reg.xray import Intensity, PreprocessOptions, xray_from_pixels
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.leak import find_leaking_field
from fluoro_reg.xray.preprocessing.preprocess import preprocess, preprocess_readings

SIZE = 384
FULL_SCALE = 65535.0


def rotated_rectangle(angle: float, half_width: float, half_height: float) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    c, s = np.cos(angle), np.sin(angle)
    return (np.abs(c * x + s * y) < half_width) & (np.abs(c * y - s * x) < half_height)


FIELDS = {"circle": circle(SIZE, 0.4), "tilted rectangle": rotated_rectangle(0.2, 0.7, 0.6)}


def readings(pixels: np.ndarray, intensity: Intensity = Intensity.TRANSMITTED) -> list[str]:
    return [
        one.reading for one in preprocess_readings(xray_from_pixels(pixels, camera(SIZE, SIZE), intensity), PreprocessOptions())
    ]


def body_above_open_beam() -> np.ndarray:
    """A dark body that ends within the image, and air at full scale below its straight lower end."""
    counts = 40 * photons(line_integrals(SIZE, 1))
    counts[int(0.82 * SIZE) :] = FULL_SCALE
    return np.clip(counts, 0, FULL_SCALE)


def leaking(field: np.ndarray, leak: float, clipped: bool) -> np.ndarray:
    integrals = line_integrals(SIZE, 2)
    if clipped:  # the body becomes thinner towards open air on one side, inside the field and outside
        integrals = integrals * np.clip((0.85 - np.linspace(0, 1, SIZE)) / 0.5, 0, 1)
    counts = 40 * photons(integrals)
    transmission = leak + (1 - leak) * gaussian_filter(field.astype(float), 1.5)
    return np.clip(counts * transmission, 0, FULL_SCALE)


def test_a_body_beside_an_open_beam_is_not_only_taken_for_a_shadow():
    names = readings(body_above_open_beam())
    assert "transmitted, whole image" in names
    image = xray_from_pixels(body_above_open_beam(), camera(SIZE, SIZE), Intensity.TRANSMITTED)
    prepared = preprocess(image, PreprocessOptions())
    assert prepared.rejection is None
    assert bool(prepared.image.mask[: int(0.7 * SIZE)].float().mean() > 0.9), "the body must be compared"


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("leak", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("clipped", [False, True])
def test_the_field_of_a_leaking_collimator_is_found(name, leak, clipped):
    field = FIELDS[name]
    pixels = torch.from_numpy(leaking(field, leak, clipped).astype(np.float32))
    coarse = coarse_image(pixels, torch.ones(SIZE, SIZE, dtype=torch.bool))
    found = find_leaking_field(coarse.mean, coarse.usable)
    assert found is not None
    assert (found.mask(SIZE, SIZE, coarse.factor, margin=0.0) != field).mean() < 0.025


@pytest.mark.parametrize("seed", range(6))
def test_without_a_collimator_no_leak_is_found(seed):
    pixels = torch.from_numpy((40 * photons(line_integrals(SIZE, seed), seed=seed)).astype(np.float32))
    coarse = coarse_image(pixels, torch.ones(SIZE, SIZE, dtype=torch.bool))
    assert find_leaking_field(coarse.mean, coarse.usable) is None
    assert find_leaking_field(np.zeros_like(coarse.mean), coarse.usable) is None


def test_lead_that_lets_nothing_through_leaves_one_reading():
    counts = 40 * photons(line_integrals(SIZE, 2)) * FIELDS["circle"]
    assert readings(counts) == ["transmitted, collimated field"]


def test_an_uncertain_polarity_leaves_both_readings():
    rows = np.linspace(-1, 1, SIZE)
    symmetric = 1000 + 100 * np.sin(9 * rows)[:, None] * np.sin(7 * rows)[None, :]
    names = readings(symmetric, Intensity.AUTO)
    assert {name.split(",")[0] for name in names} == {"transmitted", "attenuation"}


def test_no_field_is_looked_for_when_that_is_switched_off():
    image = xray_from_pixels(
        40 * photons(line_integrals(SIZE, 2)) * FIELDS["circle"], camera(SIZE, SIZE), Intensity.TRANSMITTED
    )
    prepared = preprocess_readings(image, PreprocessOptions(find_collimator=False))
    assert [one.reading for one in prepared] == ["transmitted, whole image"]
