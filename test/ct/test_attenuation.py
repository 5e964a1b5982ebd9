"""HU to attenuation: published values at the knots, and the properties that rendering relies on."""

import numpy as np
import pytest

from fluoro_reg.ct.attenuation import BONE_HU, attenuation_from_hu


def attenuation(*hu: float) -> list[float]:
    return attenuation_from_hu(np.array(hu, dtype=np.float32)).tolist()


def test_water_and_air_have_their_published_attenuation_at_60_kev():
    assert attenuation(0.0, -1000.0) == pytest.approx([0.02059, 0.0])


def test_cortical_bone_has_its_published_attenuation_at_60_kev():
    assert attenuation(BONE_HU) == pytest.approx([0.3148 * 1.92 / 10], rel=1e-4)


def test_cortical_bone_has_the_hu_that_a_120_kvp_scanner_measures():
    # XCOM at 70 keV: water 0.1929 cm2/g, cortical bone 0.2577 cm2/g at 1.92 g/cm3; log-log interpolation stays within 5 %.
    assert pytest.approx(1000 * (0.2577 * 1.92 / 0.1929 - 1), rel=0.05) == BONE_HU


def test_soft_tissue_is_scaled_water():
    assert attenuation(50.0, -100.0, -800.0) == pytest.approx([0.02059 * 1.05, 0.02059 * 0.9, 0.02059 * 0.2], rel=1e-5)


def test_attenuation_below_minus_950_hu_is_exactly_zero():
    assert attenuation(-950.0, -1024.0, -3024.0, -32768.0) == [0.0, 0.0, 0.0, 0.0]


def test_attenuation_grows_with_hu_up_to_metal():
    hu = np.linspace(-1100, 40_000, 30_000, dtype=np.float32)
    values = attenuation_from_hu(hu)
    assert values.dtype == np.float32
    assert (np.diff(values[hu > -950]) > 0).all()
    assert attenuation(3071.0)[0] == pytest.approx(0.098, abs=0.001)
    assert attenuation(40_000.0)[0] > 1.0


def test_the_curve_has_no_jumps():
    hu = np.arange(-1100, 4000, 1, dtype=np.float32)
    assert np.diff(attenuation_from_hu(hu)).max() < 4e-5
