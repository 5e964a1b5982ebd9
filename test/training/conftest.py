"""A CT small enough to train on in a second: an irregular bone in water in air, a few centimetres wide."""

import numpy as np
import pytest

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume


@pytest.fixture(scope="session")
def volume() -> CTVolume:
    k, j, i = np.meshgrid(*[np.arange(20.0)] * 3, indexing="ij")
    hu = np.full((20, 20, 20), -1000, np.float32)
    hu[(i - 9.5) ** 2 + (j - 9.5) ** 2 < 64] = 0
    hu[(i > 6) & (i < 10) & (j > 5) & (j < 14) & (k > 2) & (k < 17)] = 900
    hu[(i > 8) & (i < 16) & (j > 8) & (j < 12) & (k > 11) & (k < 15)] = 1200
    patient_from_voxel = np.diag([8.0, 8.0, 8.0, 1.0])
    patient_from_voxel[:3, 3] = (-70, 30, -400)
    return volume_from_hu(hu, patient_from_voxel, "the test's CT")


@pytest.fixture(scope="session")
def carm() -> CarmRange:
    return CarmRange(views=("AP",), primary_deg=(-20, 20), secondary_deg=(-10, 10), roll_deg=(-5, 5))
