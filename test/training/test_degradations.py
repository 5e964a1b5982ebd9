"""Degradations: what they keep, what each of them changes, and reproducible random values."""

import dataclasses

import pytest
import torch

from fluoro_reg.learned.inference import MINIMUM_VISIBLE_FRACTION
from fluoro_reg.training import artefacts
from fluoro_reg.training.degradations import DegradationOptions, degrade
from fluoro_reg.training.random_values import RandomValues, seeded_generator

NONE = DegradationOptions(
    bone_contrast=(1, 1),
    density=(1, 1),
    beyond=0,
    background=0,
    couch=0,
    saturation=0,
    scatter=0,
    noise=0,
    blur_px=0,
    shading=0,
    gamma=(1, 1),
    offset=0,
    attenuation=0,
    tools=0,
    writing=0,
    collimation=0,
)
SIZE = 48


def integrals(batch: int = 16) -> torch.Tensor:
    y, x = torch.linspace(-1, 1, SIZE)[:, None], torch.linspace(-1, 1, SIZE)
    one = 4 * torch.exp(-(x * x + 2 * y * y)) + torch.sin(7 * x) * torch.cos(5 * y)
    return (one - one.min()).expand(batch, SIZE, SIZE).clone()


def test_without_degradations_the_image_is_the_attenuation_from_0_to_1():
    x = integrals()
    pixels, mask = degrade(x, NONE, RandomValues.seeded(16, 0, 0))
    assert mask.all()
    torch.testing.assert_close(pixels, x / x.amax((1, 2), keepdim=True), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("background", 1.0),
        ("couch", 1.0),
        ("saturation", 1.0),
        ("scatter", 0.6),
        ("noise", 0.1),
        ("blur_px", 2.0),
        ("shading", 0.5),
        ("offset", 0.1),
        ("attenuation", 1.0),
        ("tools", 1.0),
        ("writing", 1.0),
        ("collimation", 1.0),
    ],
)
def test_each_degradation_changes_most_images_differently(name, value):
    x = integrals()
    clean, _ = degrade(x, NONE, RandomValues.seeded(16, 0, 0))
    pixels, mask = degrade(x, dataclasses.replace(NONE, **{name: value}), RandomValues.seeded(16, 0, 0))
    assert torch.isfinite(pixels).all()
    changed = ((pixels - clean).abs() * mask).amax((1, 2)) + (~mask).float().mean((1, 2))
    assert float((changed > 1e-3).float().mean()) > 0.7
    if name != "attenuation":
        assert float((changed - changed[0]).abs().max()) > 1e-3
    assert (name in ("collimation", "saturation")) == bool((~mask).any())


def test_noise_is_strongest_behind_the_densest_bone():
    x = integrals(64)
    pixels, _ = degrade(x, dataclasses.replace(NONE, noise=0.05), RandomValues.seeded(64, 0, 0))
    clean, _ = degrade(x, NONE, RandomValues.seeded(64, 0, 0))
    spread = (pixels - clean).std(0)
    dense = x[0] > x[0].quantile(0.9)
    assert float(spread[dense].mean()) > 1.3 * float(spread[x[0] < x[0].quantile(0.1)].mean())


def test_the_outside_of_a_collimator_leaks_and_is_mostly_masked():
    """The shadow of the anatomy goes on there: a leaking collimator adds the same to every line integral far outside."""
    flat = torch.zeros(64, SIZE, SIZE)
    passing, mask = artefacts.collimator(flat, torch.ones(64, dtype=torch.bool), RandomValues.seeded(64, 3, 1))
    far = passing.amin((1, 2))
    assert float(far.min()) >= 0.002 and 0.004 < float(far.max()) < 0.2
    assert 0.7 < float((~mask).any(2).any(1).float().mean()) < 0.97
    assert float(passing[mask].mean()) > 0.85 > 0.2 > float(passing[~mask].mean())
    assert float(mask.float().mean((1, 2)).min()) > MINIMUM_VISIBLE_FRACTION


def test_exposure_of_the_body_saturates_air_beside_it():
    """Air has one value, its inside is masked, and the body keeps its contrast."""
    body = torch.zeros(32, SIZE, SIZE)
    body[:, :, : SIZE // 2] = 2 + integrals(32)[:, :, : SIZE // 2]
    pixels, mask = degrade(body, dataclasses.replace(NONE, saturation=1.0), RandomValues.seeded(32, 0, 0))
    air = pixels[:, :, SIZE // 2 + 2 :]
    assert float((air.amax((1, 2)) - air.amin((1, 2))).max()) == 0
    hidden = ~mask[:, :, SIZE // 2 + 2 :].any(2).any(1)
    assert 0.5 < float(hidden.float().mean()) < 1
    assert mask[:, :, : SIZE // 4].float().mean() > 0.8
    assert float(pixels[:, :, : SIZE // 2].std((1, 2)).min()) > 0.05


@pytest.mark.parametrize("gamma", [0.6, 1.5])
def test_a_display_curve_scales_photons_but_bends_their_logarithm(gamma):
    x, options = integrals(), dataclasses.replace(NONE, gamma=(gamma, gamma))
    clean, _ = degrade(x, NONE, RandomValues.seeded(16, 0, 0))
    photons, _ = degrade(x, options, RandomValues.seeded(16, 0, 0))
    logarithm, _ = degrade(x, dataclasses.replace(options, attenuation=1.0), RandomValues.seeded(16, 0, 0))
    torch.testing.assert_close(photons, clean, atol=1e-3, rtol=0)
    unclipped = x <= x.amin() + 4.6
    expected = ((x - x.amin()) / 4.60517).clamp_max(1) ** gamma
    torch.testing.assert_close(logarithm[unclipped], (expected / expected.amax())[unclipped], atol=1e-3, rtol=0)


def test_a_batch_is_reproducible_from_its_number():
    options = DegradationOptions()
    first, again, next_one = (degrade(integrals(), options, RandomValues.seeded(16, 7, number))[0] for number in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, next_one)


def test_seeds_and_numbers_are_not_interchangeable():
    values = {float(torch.rand(1, generator=seeded_generator(seed, number))) for seed in range(20) for number in range(20)}
    assert len(values) == 400
