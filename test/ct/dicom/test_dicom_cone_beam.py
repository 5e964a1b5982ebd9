"""Cone-beam CT of a C-arm (X-Ray 3D Angiographic): its geometry is read, and its values are mapped to HU by air and tissue."""

import numpy as np
import pytest
from helpers.enhanced_ct import enhanced
from pydicom.uid import XRay3DAngiographicImageStorage, XRay3DCraniofacialImageStorage

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.xray import read_xray

TISSUE = float(attenuation_from_hu(np.array([40.0], dtype=np.float32))[0])


@pytest.fixture(scope="module")
def noisy_body() -> np.ndarray:
    """Return HU [k, j, i] of a body with bone in air, with the noise of a cone-beam CT."""
    j, i = np.indices((8, 48, 64))[1:]
    radius = np.hypot((i - 32) / 24, (j - 24) / 18)
    hu = np.where(radius < 1, 40.0, -1000.0)
    hu[np.hypot(i - 40, j - 20) < 4] = 900.0
    return np.round(hu + np.random.default_rng(0).normal(0, 40, hu.shape))


def cone_beam(path, values, storage=XRay3DAngiographicImageStorage):
    places = [[-3.0, 4.0, 1.5 * k] for k in range(len(values))]
    dataset = enhanced(values, places, [0] * len(values))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = storage
    dataset.Modality = "XA"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("storage", [XRay3DAngiographicImageStorage, XRay3DCraniofacialImageStorage])
@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, 600.0), (3.0, 4000.0), (1.0, 1000.0)])
def test_uncalibrated_values_are_mapped_by_the_levels_of_air_and_tissue(tmp_path, noisy_body, slope, offset, storage):
    file = cone_beam(tmp_path / "cone_beam.dcm", np.round(slope * noisy_body + offset), storage)
    volume = read_ct(file)
    assert volume.shape_ijk == (64, 48, 8) and volume.voxel_size_mm == pytest.approx((1.3, 0.7, 1.5))
    assert not volume.is_hu
    (warning,) = [text for text in volume.warnings if "not calibrated" in text]
    assert ("mapped to their HU" in warning) == (slope != 1 or offset != 0)
    tissue = volume.attenuation[:, 20:28, 20:28].mean().item()
    assert tissue == pytest.approx(TISSUE, rel=0.04)
    assert volume.attenuation[:, :3].mean().item() < 0.1 * tissue
    assert volume.attenuation[:, 20, 40].mean().item() > 1.4 * tissue


def test_a_constant_outside_the_field_is_not_taken_for_air(tmp_path, noisy_body):
    values = np.round(0.5 * noisy_body + 600)
    values[:, :, :6] = -2000
    volume = read_ct(cone_beam(tmp_path / "cone_beam.dcm", values))
    assert any("air read 1" in warning for warning in volume.warnings)
    assert volume.attenuation[:, 20:28, 20:28].mean().item() == pytest.approx(TISSUE, rel=0.04)
    assert not volume.attenuation[:, :, :6].any()


def test_values_without_two_levels_are_used_as_they_are(tmp_path):
    values = np.round(np.random.default_rng(0).normal(40, 30, (12, 48, 64)))
    volume = read_ct(cone_beam(tmp_path / "cone_beam.dcm", values))
    assert any("used as they are" in warning for warning in volume.warnings)


def test_a_volume_is_not_an_x_ray(tmp_path, noisy_body):
    with pytest.raises(InputError, match=r"is a reconstructed volume, not an X-ray; give it as --ct"):
        read_xray(cone_beam(tmp_path / "cone_beam.dcm", noisy_body), None)
