"""Real and problematic files: each gives the right geometry or one clear error."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from pydicom import dcmread
from pydicom.pixels import apply_rescale, get_decoder, pixel_array
from pydicom.uid import generate_uid

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError

pytestmark = pytest.mark.data

EXPECTED_ERRORS = {
    "multi_frame_encapsulated": "have only 2 positions",
    "odd_and_malformed_a": "no series has 3 slices or more",
    "odd_and_malformed_b": "no series has 3 slices or more",
    "odd_and_malformed_c": "no series has 3 slices or more",
    "series_notavolume_001": "all 4 slices have the same position",
    "series_slicecount_001": "no CT slices among the DICOM files (2 MR images)",
    "series_sliceincrement_001": "missing: a step of 10.00 mm between slices 3 and 4 of 4 (z = 28.11 and 38.11 mm)",
    "series_sliceincrement_002": "missing: a step of 1.56 mm between slices 3 and 4 of 4 (z = -51.14 and -49.58 mm)",
    "series_sliceorientation_001": "no CT slices among the DICOM files (4 MR images)",
    "transfer_syntaxes": "all 16 slices have the same position",
}


@pytest.mark.parametrize("name", EXPECTED_ERRORS)
def test_a_problematic_folder_gives_one_clear_error(data_folder, name):
    with pytest.raises(InputError) as caught:
        read_ct(data_folder / "dicom_edge" / name)
    assert EXPECTED_ERRORS[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_folder_of_problematic_files_has_a_test(data_folder):
    names = {folder.name for folder in (data_folder / "dicom_edge").iterdir()}
    assert names == {*EXPECTED_ERRORS, "series_gantrytilting_001"}


def test_each_problematic_file_alone_gives_an_input_error_and_no_other_output(data_folder, capfd, recwarn):
    files = [file for part in ("dicom_edge", "xray") for file in (data_folder / part).rglob("*") if file.is_file()]
    assert len(files) > 80
    for file in files:
        with pytest.raises(InputError) as caught:
            read_ct(file)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


def test_the_5_mm_series_agrees_with_simpleitk(data_folder):
    folder = data_folder / "ct" / "abdomen_pelvis_5mm_dicom"
    volume = read_ct(folder)
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    assert volume.shape_ijk == image.GetSize() == (512, 512, 75)
    assert volume.voxel_size_mm == pytest.approx((0.703125, 0.703125, 5.0))
    corner = torch.tensor([[0, 0, 0], [511, 0, 0], [0, 511, 0], [0, 0, 74]], dtype=torch.float64)
    for point, index in zip(volume.points_patient(corner).tolist(), corner.int().tolist(), strict=True):
        assert point == pytest.approx(image.TransformIndexToPhysicalPoint(index), abs=1e-3)
    assert volume.attenuation[40].numpy() == pytest.approx(
        attenuation_from_hu(SimpleITK.GetArrayViewFromImage(image)[40].astype(np.float32)), abs=1e-6
    )


def test_the_3_mm_nifti_agrees_with_simpleitk(data_folder):
    folder = data_folder / "ct" / "abdomen_pelvis_3mm"
    volume, image = read_ct(folder), SimpleITK.ReadImage(str(folder / "example_ct.nii.gz"))
    assert volume.shape_ijk == image.GetSize() == (122, 101, 112)
    for index in itertools.product((0, 121), (0, 100), (0, 111)):
        point = volume.points_patient(torch.tensor([index], dtype=torch.float64))[0].tolist()
        assert point == pytest.approx(image.TransformIndexToPhysicalPoint(index), abs=1e-3)
    assert any("metal" in warning for warning in volume.warnings)


def test_the_tilted_head_keeps_every_slice_at_its_true_position(data_folder):
    """At the ImagePositionPatient of a slice, the volume equals that slice, up to the blur of two interpolations."""
    folder = data_folder / "ct" / "head_gantry_tilt_dicom"
    volume = read_ct(folder)
    voxel_from_patient = torch.linalg.inv(volume.patient_from_voxel)
    heights = []
    for file in sorted(folder.glob("*.dcm")):
        dataset = dcmread(file)
        position = torch.tensor([*map(float, dataset.ImagePositionPatient), 1.0], dtype=torch.float64)
        i, j, k = (voxel_from_patient @ position)[:3].tolist()
        assert (i, j) == pytest.approx((0, 0), abs=1e-6)
        heights.append(k)
        below = min(int(k), volume.shape_ijk[2] - 2)
        fraction = k - below
        found = (1 - fraction) * volume.attenuation[below] + fraction * volume.attenuation[below + 1]
        slice_attenuation = attenuation_from_hu(
            dataset.pixel_array.astype(np.float32) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        )
        assert np.abs(found.numpy() - slice_attenuation).mean() < 0.02 * slice_attenuation.mean() + 2e-4
    steps = np.diff(heights) * volume.voxel_size_mm[2]
    assert sorted({round(step, 2) for step in steps}) == [1.14, 4.22, 7.38]
    assert heights[-1] == pytest.approx(volume.shape_ijk[2] - 1)
    assert any("18.5 degrees" in warning for warning in volume.warnings)
    assert any("13 x 4.22, 1 x 1.14, 13 x 7.38 mm" in warning for warning in volume.warnings)


def test_the_tilted_fragment_is_read_with_its_shear(data_folder):
    volume = read_ct(data_folder / "dicom_edge" / "series_gantrytilting_001")
    assert volume.patient_from_voxel[:3, 2].tolist() == pytest.approx([0, 0, 5], abs=1e-6)
    assert any("14.0 degrees" in warning for warning in volume.warnings)


def syntax_files() -> list[str]:
    return ["2", "1.99", "4.90", "4.91", "4.80", "4.81", "4.55", "4.70", "4.57", "4.50", "4.51", "4.53", "1", "5"]


@pytest.mark.parametrize("ending", syntax_files())
def test_each_transfer_syntax_is_decoded_as_by_pydicom_or_named_in_an_error(data_folder, tmp_path: Path, ending):
    """One real slice, stacked three times, in its own transfer syntax."""
    (file,) = (data_folder / "dicom_edge" / "transfer_syntaxes").glob(f"CTImage.dcm_*1.2.840.10008.1.2.{ending}.dcm")
    dataset = dcmread(file)
    syntax, (x, y, z) = dataset.file_meta.TransferSyntaxUID, dataset.ImagePositionPatient
    for k in range(3):
        dataset.ImagePositionPatient = [x, y, float(z) + 5 * k]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / f"{k}.dcm")
    try:
        readable = get_decoder(syntax).is_available
        expected = apply_rescale(pixel_array(dataset), dataset) if readable else None
    except (NotImplementedError, RuntimeError):
        expected = None
    if expected is None:
        with pytest.raises(InputError, match=r"DICOM file 1 of 3") as caught:
            read_ct(tmp_path)
        assert syntax.name in str(caught.value)
        assert "decode" in str(caught.value) or "export it uncompressed" in str(caught.value)
    else:
        volume = read_ct(tmp_path)
        assert volume.attenuation[1].numpy() == pytest.approx(attenuation_from_hu(expected.astype(np.float32)), abs=1e-6)
        assert any("lossy" in warning for warning in volume.warnings) == (ending in ("4.50", "4.51", "4.81"))
