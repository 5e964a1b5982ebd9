"""NIfTI, NRRD and MetaImage: the LPS position of a landmark, and errors for files that are not a CT."""

import gzip
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

IJK = (9, 4, 2)


def brightest_point(volume: CTVolume) -> list[float]:
    k, j, i = np.unravel_index(int(volume.attenuation.argmax()), volume.attenuation.shape)
    return volume.points_patient(torch.tensor([[i, j, k]], dtype=torch.float64))[0].tolist()


def ras_affine(mirror: bool = False) -> np.ndarray:
    affine = np.eye(4)
    scale = np.diag([-1.3 if mirror else 1.3, 0.7, 2.5])
    affine[:3, :3] = Rotation.from_euler("xyz", [10, 25, -40], degrees=True).as_matrix() @ scale
    affine[:3, 3] = [11, -22, 33]
    return affine


def write_nifti(path: Path, body: np.ndarray, affine: np.ndarray, dtype: type = np.int16) -> Path:
    image = nibabel.Nifti1Image(body.transpose(2, 1, 0).astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_nifti_is_converted_from_ras_to_lps_also_when_left_handed(tmp_path, body, name, mirror):
    affine = ras_affine(mirror)
    volume = read_ct(write_nifti(tmp_path / name, body, affine))
    right, anterior, superior = (affine @ [*IJK, 1])[:3]
    assert brightest_point(volume) == pytest.approx([-right, -anterior, superior], abs=1e-4)
    assert volume.shape_ijk == (16, 12, 6)
    assert (torch.linalg.det(volume.patient_from_voxel[:3, :3]) < 0) == mirror
    assert not volume.warnings


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.nhdr", "ct.mha", "ct.mhd"])
def test_nrrd_and_metaimage_are_lps(tmp_path, body, name):
    image = SimpleITK.GetImageFromArray(body.astype(np.int16))
    image.SetDirection(Rotation.from_euler("xyz", [10, 25, -40], degrees=True).as_matrix().ravel().tolist())
    image.SetSpacing((1.3, 0.7, 2.5))
    image.SetOrigin((11, -22, 33))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    volume = read_ct(tmp_path / name)
    assert brightest_point(volume) == pytest.approx(image.TransformIndexToPhysicalPoint(IJK), abs=1e-6)
    assert volume.voxel_size_mm == pytest.approx((1.3, 0.7, 2.5))


def test_dicom_nifti_and_metaimage_of_one_scan_agree(tmp_path, writer, body):
    writer.write(body, [[5, 6, 2.5 * k] for k in range(6)], spacing=(0.7, 1.3))
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(writer.folder)))
    SimpleITK.WriteImage(image, str(tmp_path / "ct.mha"))
    SimpleITK.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    dicom, metaimage, nifti_file = (read_ct(path) for path in (writer.folder, tmp_path / "ct.mha", tmp_path / "ct.nii.gz"))
    for other in (metaimage, nifti_file):
        assert torch.allclose(other.patient_from_voxel, dicom.patient_from_voxel, atol=1e-5)
        assert other.attenuation.equal(dicom.attenuation)
    assert metaimage.fingerprint == dicom.fingerprint


def test_a_folder_with_one_volume_file_is_read(tmp_path, body):
    write_nifti(tmp_path / "ct.nii.gz", body, ras_affine())
    (tmp_path / "LICENCE.txt").write_text("text")
    assert read_ct(tmp_path).shape_ijk == (16, 12, 6)
    write_nifti(tmp_path / "second.nii", body, ras_affine())
    with pytest.raises(InputError, match="2 volume files"):
        read_ct(tmp_path)


def test_a_folder_with_dicom_and_a_volume_file_is_rejected(tmp_path, writer, body):
    writer.write(body, [[0, 0, k] for k in range(6)])
    write_nifti(writer.folder / "ct.nii.gz", body, ras_affine())
    with pytest.raises(InputError, match="contains DICOM and 1 volume files"):
        read_ct(writer.folder)


def test_a_geometry_in_metres_is_converted_to_millimetres(tmp_path, body):
    affine = ras_affine() @ np.diag([1, 1, 1, 1])
    affine[:3] *= 0.001
    image = nibabel.Nifti1Image(body.transpose(2, 1, 0).astype(np.int16), affine)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "ct.nii")
    assert read_ct(tmp_path / "ct.nii").voxel_size_mm == pytest.approx((1.3, 0.7, 2.5), rel=1e-5)


def test_a_nifti_without_orientation_is_rejected(tmp_path, body):
    image = nibabel.Nifti1Image(body.transpose(2, 1, 0).astype(np.int16), ras_affine())
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "none.nii")
    with pytest.raises(InputError, match="has no orientation"):
        read_ct(tmp_path / "none.nii")


def write_nifti_with_sform(path: Path, body: np.ndarray, *rows: list[float]) -> Path:
    """Write a NIfTI with an sform (three rows of four, at byte 280 of the header) that no library would write."""
    content = bytearray(write_nifti(path, body, ras_affine()).read_bytes())
    content[280:328] = np.array(rows, dtype="<f4").tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path, body: write_nifti_with_sform(path, body, [1, 0, 1, 5], [0, 1, 0, 6], [1, 0, 1, 7]), "singular"),
        (lambda path, body: write_nifti_with_sform(path, body, [1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 0, 7]), "singular"),
        (lambda path, body: write_nifti_with_sform(path, body, [1, 0, 0, 5], [0, np.nan, 0, 6], [0, 0, 1, 7]), "not finite"),
        (lambda path, body: write_nifti(path, body, np.diag([700, 700, 2500, 1.0])), "check the unit"),
        (
            lambda path, body: write_nifti(path, np.where(body == 1200, np.nan, body), ras_affine(), np.float32),
            "NaN or infinite",
        ),
        (lambda path, body: write_nifti(path, body[:1], ras_affine()), "16 x 12 x 1 voxels, which is not a volume"),
        (lambda path, body: write_nifti(path, np.full_like(body, -1000), ras_affine()), "nothing denser than air"),
    ],
)
def test_a_nifti_that_is_not_a_ct_gives_one_clear_error(tmp_path, body, make, sentence):
    path = tmp_path / "ct.nii"
    with np.errstate(invalid="ignore"):
        make(path, body)
    with pytest.raises(InputError, match=sentence) as caught:
        read_ct(path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_time_series_and_colours_are_rejected(tmp_path, body):
    voxels = body.transpose(2, 1, 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(np.stack([voxels, voxels], axis=-1), ras_affine()), tmp_path / "time.nii")
    colours = np.zeros(voxels.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, ras_affine()), tmp_path / "rgb.nii")
    vectors = SimpleITK.GetImageFromArray(np.zeros((6, 12, 16, 3), dtype=np.int16), isVector=True)
    SimpleITK.WriteImage(vectors, str(tmp_path / "rgb.mha"))
    for name, sentence in [("time.nii", "4 dimensions"), ("rgb.nii", "colours"), ("rgb.mha", "colours or vectors")]:
        with pytest.raises(InputError, match=sentence):
            read_ct(tmp_path / name)


def test_a_fourth_dimension_of_size_one_is_ignored(tmp_path, body):
    voxels = body.transpose(2, 1, 0).astype(np.int16)[..., None]
    nibabel.save(nibabel.Nifti1Image(voxels, ras_affine()), tmp_path / "one.nii")
    image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(body.astype(np.int16))])
    SimpleITK.WriteImage(image, str(tmp_path / "one.mha"))
    assert read_ct(tmp_path / "one.nii").shape_ijk == read_ct(tmp_path / "one.mha").shape_ijk == (16, 12, 6)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_damaged_files_are_rejected_and_no_path_is_printed(tmp_path, body, capfd, name, damage):
    path = tmp_path / name
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(body.astype(np.int16)), str(path))
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) * 2 // 3], "empty": b"", "garbage": b"garbage " * 200}[damage])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_ct(path)
    output = capfd.readouterr()  # MetaImage's parser writes a message of its own to standard error, without the path
    assert output.out == ""
    assert name not in output.err


def test_a_nifti_with_an_unknown_unit_is_rejected(tmp_path, body):
    path = write_nifti(tmp_path / "ct.nii", body, ras_affine())
    content = bytearray(path.read_bytes())
    content[123] = 104
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or truncated"):
        read_ct(path)


def test_a_decompression_bomb_is_rejected_by_its_header(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((8192, 8192, 8192))
    header.set_data_dtype(np.int16)
    with gzip.open(tmp_path / "bomb.nii.gz", "wb") as file:
        file.write(header.binaryblock + b"\0" * 4096)
    with pytest.raises(InputError, match="8192 x 8192 x 8192 voxels, more than"):
        read_ct(tmp_path / "bomb.nii.gz")


@pytest.mark.parametrize(
    ("module", "name", "content"), [("nibabel", "ct.nii.gz", b""), ("SimpleITK", "ct.nrrd", b"NRRD0004\ntype: short\n\n")]
)
def test_the_error_for_a_missing_library_says_how_to_install_it(tmp_path, monkeypatch, module, name, content):
    (tmp_path / name).write_bytes(content)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf'{module}: pip install "fluoro_reg\[formats\]"'):
        read_ct(tmp_path / name)
