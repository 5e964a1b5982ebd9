"""Conversion of HU to a CTVolume: warnings, the fingerprint, and the summary that ct-info prints."""

import json

import numpy as np
import pytest
import torch

from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.summary import summarise

AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])


def volume(hu: np.ndarray, affine: np.ndarray = AFFINE):
    return volume_from_hu(hu.astype(np.float32), affine)


def test_a_plain_ct_has_no_warnings(body):
    assert volume(body).warnings == ()


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda hu: (hu + 1000) / 2200, "all values lie in 0 to 1: these cannot be HU"),
        (lambda hu: hu + 1024, "no air"),
        (lambda hu: np.minimum(hu, 40), "no bone"),
        (lambda hu: np.where(hu >= 40, 3071, hu), "dense objects are clipped at 3071 HU"),
        (lambda hu: np.where(hu >= 1200, 8000, hu), "metal or other very dense objects: up to 8000 HU"),
        (lambda hu: np.roll(hu, -3, axis=2), "extends beyond the field of view at the first column:"),
        (lambda hu: np.roll(hu, 2, axis=1), "extends beyond the field of view at the last row:"),
    ],
)
def test_suspicious_values_give_a_warning(body, change, warning):
    (message,) = volume(change(body)).warnings
    assert warning in message


def test_the_fingerprint_depends_on_geometry_and_pixels(body):
    first = volume(body).fingerprint
    assert len(first) == 64
    assert volume(body.copy()).fingerprint == first
    assert volume(body, AFFINE @ np.diag([1, 1, 1 + 1e-7, 1])).fingerprint == first
    moved, changed = AFFINE.copy(), body.copy()
    moved[0, 3] += 0.01
    changed[0, 0, 0] += 1
    assert len({first, volume(body, moved).fingerprint, volume(changed).fingerprint}) == 3


def test_the_summary_is_json_and_describes_the_geometry(body):
    affine = np.array([[0, 0, -2.0, 5], [0.8, 0, 0, 6], [0, -0.8, 0, 7], [0, 0, 0, 1]])
    summary = json.loads(json.dumps(summarise(volume(body, affine))))
    assert summary["shape_ijk"] == [16, 12, 6]
    assert summary["voxel_size_mm"] == [0.8, 0.8, 2.0]
    assert summary["extent_mm"] == [12.8, 9.6, 12.0]
    assert summary["orientation"] == "PIR"
    assert summary["obliqueness_deg"] == summary["tilt_deg"] == 0
    assert summary["hu_range"] == [-1000, 1200]
    assert summary["air_share"] == pytest.approx((body == -1000).mean(), abs=1e-4)
    assert summary["fingerprint"] == volume(body, affine).fingerprint
    assert summary["warnings"] == []


def test_the_summary_contains_tilt_obliqueness_and_coarse_slices(body):
    angle = np.radians(20.0)
    tilted, rotated = np.diag([0.8, 0.8, 4.0, 1.0]), AFFINE.copy()
    tilted[1:3, 1] = 0.8 * np.cos(angle), -0.8 * np.sin(angle)
    rotated[:3, :3] = (
        np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) @ AFFINE[:3, :3]
    )
    assert summarise(volume(body, tilted))["tilt_deg"] == pytest.approx(20)
    assert "coarse slices: steps of 4.00 mm" in summarise(volume(body, tilted))["warnings"][0]
    oblique = summarise(volume(body, rotated))
    assert (oblique["tilt_deg"], oblique["obliqueness_deg"], oblique["orientation"]) == (0, pytest.approx(20), "LPS")


def test_attenuation_is_float32_and_geometry_float64(body):
    converted = volume(body)
    assert converted.attenuation.dtype == torch.float32
    assert converted.patient_from_voxel.dtype == torch.float64
