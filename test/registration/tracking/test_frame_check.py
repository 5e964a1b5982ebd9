"""Frames that are recognised before they are registered."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.registration.tracking.frame_check import FrameCheck, FrameKind
from fluoro_reg.xray.image import Intensity


@pytest.fixture
def accepted(world):
    check, xray = FrameCheck(), world.xray()
    assert check.kind(xray) is FrameKind.NEW
    check.accept(xray)
    return check


def _with(xray, pixels, **changes):
    return replace(xray, pixels=pixels, **changes)


def test_a_copy_is_repeated_and_new_noise_is_not(world, accepted):
    xray = world.xray()
    assert accepted.kind(_with(xray, xray.pixels.clone())) is FrameKind.REPEATED
    noisy = xray.pixels + torch.rand(xray.pixels.shape)
    assert accepted.kind(_with(xray, noisy)) is FrameKind.NEW
    assert accepted.kind(_with(xray, noisy.clone())) is FrameKind.REPEATED


def test_copies_may_be_let_through(world):
    check, xray = FrameCheck(register_repeats=True), world.xray()
    assert [check.kind(xray) for _ in range(3)] == [FrameKind.NEW] * 3


def test_a_frame_without_a_beam_is_dark(world, accepted):
    xray = world.xray()
    dark = 200 + 20 * torch.randn(xray.pixels.shape)
    assert accepted.kind(_with(xray, dark)) is FrameKind.DARK
    assert accepted.kind(_with(xray, 0.5 * xray.pixels)) is FrameKind.NEW


def test_darkness_is_not_judged_without_an_accepted_frame_or_of_attenuation(world, accepted):
    xray = world.xray()
    dark = torch.rand(xray.pixels.shape)
    assert FrameCheck().kind(_with(xray, dark)) is FrameKind.NEW
    assert accepted.kind(_with(xray, dark, intensity=Intensity.ATTENUATION)) is FrameKind.NEW


def test_nan_and_a_reset_are_harmless(world, accepted):
    xray = world.xray()
    accepted.kind(_with(xray, torch.full_like(xray.pixels, torch.nan)))
    accepted.reset()
    assert accepted.kind(xray) is FrameKind.NEW
