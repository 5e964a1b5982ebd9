"""Stored values to HU: rescale per slice, signed pixels, padding, compression, and unusable pixels."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1, RLELossless

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.dicom import pixels as dicom_pixels
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError

POSITIONS = [[0, 0, float(k)] for k in range(6)]


def expected(hu: np.ndarray) -> np.ndarray:
    return attenuation_from_hu(np.asarray(hu, dtype=np.float32))


def test_slope_and_intercept_are_those_of_each_slice(writer, body):
    writer.write(
        body, POSITIONS, slice_fields=lambda k: {"RescaleSlope": [1, 2, 0.5][k % 3], "RescaleIntercept": -1000 - 8 * k}
    )
    volume = read_ct(writer.folder)
    assert volume.attenuation.numpy() == pytest.approx(expected(body), abs=1e-6)
    assert volume.hu_range == (-1000.0, 1200.0)


def test_signed_pixels_keep_their_sign(writer, body):
    writer.write(body, POSITIONS, slice_fields=lambda k: {"PixelRepresentation": 1, "RescaleIntercept": 0})
    assert read_ct(writer.folder).attenuation.numpy() == pytest.approx(expected(body), abs=1e-6)


@pytest.mark.parametrize("missing", ["RescaleSlope", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_without_a_required_attribute_is_rejected_by_its_name(writer, body, missing):
    fields = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    writer.write(
        body, POSITIONS, slice_fields=lambda k: {**fields, "stored": body[k] + 1024} | ({missing: None} if k == 3 else {})
    )
    with pytest.raises(InputError, match=f"DICOM file 4 of 6 .* has no {missing}"):
        read_ct(writer.folder)


@pytest.mark.parametrize(("vr", "value"), [("SS", -1500), ("US", 2**16 - 1500)])
def test_padding_is_air_also_when_a_signed_value_was_written_as_unsigned(writer, body, vr, value):
    """With this intercept, padding is -800 HU, which a filter of implausible values would not catch."""
    body[:, 0, :] = -800
    files = writer.write(body, POSITIONS, slice_fields=lambda k: {"PixelRepresentation": 1, "RescaleIntercept": 700})
    assert read_ct(writer.folder).attenuation[:, 0].all()
    for file in files:
        dataset = dcmread(file)
        dataset.add_new("PixelPaddingValue", vr, value)
        dataset.save_as(file)
    volume = read_ct(writer.folder)
    assert not volume.attenuation[:, 0].any()
    assert volume.attenuation[2, 4, 9] > 0


def test_undeclared_padding_is_air(writer, body):
    body[:, 0, :], body[:, 1, :] = -3024, -2000
    writer.write(body, POSITIONS, slice_fields=lambda k: {"PixelRepresentation": 1, "RescaleIntercept": 0})
    volume = read_ct(writer.folder)
    assert not volume.attenuation[:, :2].any()
    assert volume.hu_range == (-1000.0, 1200.0)


def test_a_padding_value_in_the_range_of_tissue_is_ignored(writer, body):
    body[body == 40] = 0
    writer.write(
        body, POSITIONS, slice_fields=lambda k: {"PixelRepresentation": 1, "RescaleIntercept": 0, "PixelPaddingValue": 0}
    )
    volume = read_ct(writer.folder)
    assert volume.attenuation.numpy() == pytest.approx(expected(body), abs=1e-6)
    assert any("PixelPaddingValue" in warning for warning in volume.warnings)


def test_a_range_of_padding_values_is_air(writer, body):
    stored = body + 1024
    stored[:, 0, :6], stored[:, 0, 6:] = 20, 30
    limits = {"PixelPaddingValue": 20, "PixelPaddingRangeLimit": 30}
    writer.write(body, POSITIONS, slice_fields=lambda k: {"stored": stored[k], **limits})
    assert read_ct(writer.folder).hu_range[0] == -1000.0


def test_other_quantities_than_hu_are_rejected(writer, body):
    writer.write(body, POSITIONS, slice_fields=lambda k: {"RescaleType": "MGML"})
    with pytest.raises(InputError, match="a quantity other than Hounsfield units"):
        read_ct(writer.folder)


def test_truncated_pixels_are_rejected_with_the_number_of_the_file(writer, body):
    files = writer.write(body, POSITIONS)
    files[2].write_bytes(files[2].read_bytes()[:-100])
    with pytest.raises(InputError, match=r"DICOM file 3 of 6 .*damaged or truncated"):
        read_ct(writer.folder)


def test_an_empty_slice_file_is_rejected_even_at_the_end_of_the_stack(writer, body):
    files = writer.write(body, POSITIONS)
    files[-1].write_bytes(b"")
    with pytest.raises(InputError, match=r"DICOM file 6 of 6 .* no 'DICM' prefix"):
        read_ct(writer.folder)


def test_rle_gives_the_same_hu_as_uncompressed(writer, body):
    files = writer.write(body, POSITIONS)
    plain = read_ct(writer.folder)
    for file in files:
        dataset = dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    assert read_ct(writer.folder).fingerprint == plain.fingerprint


def test_the_error_for_a_missing_decoder_says_what_to_install(writer, body, monkeypatch):
    class Absent:
        is_available = False

    files = writer.write(body, POSITIONS)
    for file in files:
        dataset = dcmread(file)
        dataset.compress(RLELossless)
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dataset.save_as(file)
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda syntax: Absent())
    with pytest.raises(
        InputError, match=r"JPEG Lossless.*1\.2\.840\.10008\.1\.2\.4\.70.*pip install pylibjpeg pylibjpeg-libjpeg"
    ):
        read_ct(writer.folder)


def test_a_matrix_that_is_too_large_is_rejected_before_any_pixel_is_decoded(writer, body, monkeypatch):
    monkeypatch.setattr(dicom_pixels, "stored_pixels", lambda *args, **kwargs: pytest.fail("decoded"))
    files = writer.write(body, POSITIONS)
    for file in files:
        dataset = dcmread(file)
        dataset.Rows = dataset.Columns = 16_000
        dataset.save_as(file)
    with pytest.raises(InputError, match="16000 x 16000 voxels, more than"):
        read_ct(writer.folder)
