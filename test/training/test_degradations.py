"""Degradations: what they keep, what each of them changes, and reproducible random values."""

import dataclasses

import pytest
import torch

from fluoro_reg.training.degradations import DegradationOptions, degrade
from fluoro_reg.training.random_values import RandomValues, seeded_generator

NONE = DegradationOptions(
    bone_contrast=(1, 1),
    density=(1, 1),
    saturation=0,
    scatter=0,
    noise=0,
    blur_px=0,
    shading=0,
    gamma=(1, 1),
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
        ("saturation", 1.0),
        ("scatter", 0.6),
        ("noise", 0.1),
        ("blur_px", 2.0),
        ("shading", 0.5),
        ("gamma", (1.5, 1.5)),
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
    if name != "gamma":
        assert float((changed - changed[0]).abs().max()) > 1e-3
    assert (name == "collimation") == bool((~mask).any())


def test_noise_is_strongest_behind_the_densest_bone():
    x = integrals(64)
    pixels, _ = degrade(x, dataclasses.replace(NONE, noise=0.05), RandomValues.seeded(64, 0, 0))
    clean, _ = degrade(x, NONE, RandomValues.seeded(64, 0, 0))
    spread = (pixels - clean).std(0)
    dense = x[0] > x[0].quantile(0.9)
    assert float(spread[dense].mean()) > 1.3 * float(spread[x[0] < x[0].quantile(0.1)].mean())


def test_the_outside_of_a_collimator_is_masked_or_has_one_value():
    pixels, mask = degrade(integrals(), dataclasses.replace(NONE, collimation=1.0), RandomValues.seeded(16, 3, 1))
    for image, usable in zip(pixels, mask, strict=True):
        if not usable.all():
            assert image[~usable].unique().numel() == 1
    assert 0.3 < float(mask.float().mean()) < 1


def test_a_batch_is_reproducible_from_its_number():
    options = DegradationOptions()
    first, again, next_one = (degrade(integrals(), options, RandomValues.seeded(16, 7, number))[0] for number in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, next_one)


def test_seeds_and_numbers_are_not_interchangeable():
    values = {float(torch.rand(1, generator=seeded_generator(seed, number))) for seed in range(20) for number in range(20)}
    assert len(values) == 400
