"""What volume files state about their geometry, once, twice or not at all, and files whose names say something else."""

import bz2
import gzip
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError

SIZES = (1.3, 0.7, 2.5)
ORIGIN = (11.0, -22.0, 33.0)
DEFAULT_GEOMETRY = "are what programs write for an array without geometry"


def rotated(degrees: float = 0.0, sizes=SIZES, origin=ORIGIN, mirror: bool = False) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix() @ np.diag(sizes)
    affine[:3, 0] *= -1 if mirror else 1
    affine[:3, 3] = origin
    return affine


def nifti(path: Path, body, sform=None, qform=None, pixdim=None) -> Path:
    """Write a NIfTI with the given forms (None: code 0) and pixdim, none of which is derived from another."""
    image = nibabel.Nifti1Image(body.transpose(2, 1, 0).astype(np.int16), None)
    image.header.set_qform(qform, 1 if qform is not None else 0)
    image.header.set_sform(sform, 1 if sform is not None else 0)
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    image.header.set_xyzt_units("mm")
    stored = body.transpose(2, 1, 0).astype("<i2").tobytes(order="F")
    image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + stored)
    return path


def statements(volume) -> list[str]:
    return [warning for warning in volume.warnings if any(word in warning for word in ("says", "disagree", "states", "holds"))]


@pytest.mark.parametrize(
    ("forms", "texts"),
    [
        ({"sform": rotated(), "qform": rotated(sizes=(1.3, 0.7, 5.0))}, ["1.3 x 0.7 x 2.5 mm", "(pixdim) of 1.3 x 0.7 x 5 mm"]),
        ({"sform": rotated(), "qform": rotated(), "pixdim": (2, 2, 2)}, ["1.3 x 0.7 x 2.5 mm", "(pixdim) of 2 x 2 x 2 mm"]),
        ({"sform": rotated(), "pixdim": (2, 2, 2)}, ["pixdim says voxels of 2 x 2 x 2 mm", "the sform 1.3 x 0.7 x 2.5 mm"]),
        ({"sform": rotated(), "qform": rotated(mirror=True)}, ["(RAS)", "(LAS)", "180 degrees"]),
        ({"sform": rotated(), "qform": rotated(180)}, ["(RAS)", "(LPS)", "180 degrees"]),
        ({"sform": rotated(90), "qform": rotated()}, ["(ALS)", "(RAS)", "90 degrees"]),
    ],
)
def test_a_nifti_whose_forms_contradict_each_other_is_rejected_with_both_values(tmp_path, body, forms, texts):
    with pytest.raises(InputError, match="contradicts itself") as caught:
        read_ct(nifti(tmp_path / "ct.nii", body, **forms))
    assert all(text in str(caught.value) for text in texts)


@pytest.mark.parametrize(
    ("forms", "texts"),
    [
        ({"sform": rotated(), "qform": rotated(origin=(16, -22, 33))}, ["by 5.0 mm", "11 x -22 x 33", "16 x -22 x 33"]),
        ({"sform": rotated(8), "qform": rotated()}, ["sform and qform disagree by", "the sform is used"]),
        ({"sform": rotated(), "pixdim": (1, 1, 1)}, ["pixdim says voxels of 1 x 1 x 1 mm", "the sform 1.3 x 0.7 x 2.5 mm"]),
        ({"sform": rotated(), "pixdim": (0, 0, 0)}, ["pixdim says voxels of", "the sform 1.3 x 0.7 x 2.5 mm"]),
    ],
)
def test_a_nifti_whose_forms_differ_a_little_is_read_with_both_values(tmp_path, body, forms, texts):
    volume = read_ct(nifti(tmp_path / "ct.nii", body, **forms))
    (warning,) = statements(volume)
    assert all(text in warning for text in texts)
    assert np.allclose(volume.patient_from_voxel.numpy(), np.diag([-1, -1, 1, 1]) @ forms["sform"], atol=1e-4)


@pytest.mark.parametrize(
    "forms", [{"sform": rotated(12), "qform": rotated(12)}, {"qform": rotated(12)}, {"sform": rotated(12), "pixdim": SIZES}]
)
def test_a_nifti_whose_forms_agree_or_stand_alone_gives_no_warning(tmp_path, body, forms):
    volume = read_ct(nifti(tmp_path / "ct.nii", body, **forms))
    assert not volume.warnings
    assert np.allclose(volume.patient_from_voxel.numpy(), np.diag([-1, -1, 1, 1]) @ rotated(12), atol=1e-4)


NRRD = {
    "space": "left-posterior-superior",
    "space directions": "(1.3,0,0) (0,0.7,0) (0,0,2.5)",
    "space origin": "(11,-22,33)",
}
METAIMAGE = {"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "11 -22 33", "ElementSpacing": "1.3 0.7 2.5"}


def nrrd(path: Path, body, fields: dict[str, str]) -> Path:
    lines = ["NRRD0004", "type: int16", "dimension: 3", "sizes: 16 12 6", "encoding: raw", "endian: little"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + body.astype("<i2").tobytes())
    return path


def metaimage(path: Path, body, fields: dict[str, str], extra: int = 0) -> Path:
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    lines += [f"{name.rstrip('+')} = {value}" for name, value in fields.items()]
    lines += ["DimSize = 16 12 6", "ElementType = MET_SHORT", "ElementDataFile = LOCAL"]
    path.write_bytes(("\n".join(lines) + "\n").encode() + body.astype("<i2").tobytes() + b"\0" * extra)
    return path


def without(fields: dict[str, str], *names: str, **more: str) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name not in names} | more


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "no space directions"),
        ({"spacings": "4 4 4"}, "no space directions"),
        (without(NRRD, "space directions"), "no space directions"),
        (without(NRRD, "space directions", spacings="1.3 0.7 2.5"), "no space directions"),
        (NRRD | {"space directions": "(1.3,0,0) (0,0.7,0) none"}, "directions for fewer than three axes"),
        ({"space dimension": "3"} | without(NRRD, "space"), "states no space, so that its left and right are unknown"),
        (NRRD | {"space": "scanner-xyz"}, "states the space 'scanner-xyz'"),
        (NRRD | {"space": "3D-right-handed"}, "its left and right are unknown"),
        (NRRD | {"spacings": "2 2 2"}, r"twice, as spacings \(2 2 2\) and space directions \(\(1.3,0,0\)"),
        (NRRD | {"space units": '"in" "in" "in"'}, "lengths in in"),
        (NRRD | {"space units": '"mm" "mm" "cm"'}, "lengths in cm and mm"),
    ],
)
def test_a_nrrd_that_does_not_state_its_geometry_is_rejected(tmp_path, body, fields, sentence):
    with pytest.raises(InputError, match=sentence):
        read_ct(nrrd(tmp_path / "ct.nrrd", body, fields))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "no ElementSpacing"),
        (without(METAIMAGE, "ElementSpacing"), "no ElementSpacing"),
        (without(METAIMAGE, "TransformMatrix"), "states no TransformMatrix, so that the direction of its axes is unknown"),
        (without(METAIMAGE, "TransformMatrix", AnatomicalOrientation="???"), "no TransformMatrix"),
        (
            without(METAIMAGE, "TransformMatrix", AnatomicalOrientation="LPI"),
            "AnatomicalOrientation LPI but no TransformMatrix",
        ),
        ({"ElementSpacing": "1.3 0.7 2.5"}, "no TransformMatrix"),
        (METAIMAGE | {"Position": "0 0 0"}, "states its Offset twice: 11 -22 33 and 0 0 0"),
        (METAIMAGE | {"ElementByteOrderMSB": "True"}, "states its BinaryDataByteOrderMSB twice: False and True"),
        (METAIMAGE | {"ElementSpacing+": "2 2 2"}, "states its ElementSpacing twice: 1.3 0.7 2.5 and 2 2 2"),
        (METAIMAGE | {"DistanceUnits": "furlong"}, r"lengths in \(unknown\)"),
    ],
)
def test_a_metaimage_that_does_not_state_its_geometry_or_contradicts_itself_is_rejected(tmp_path, body, fields, sentence):
    with pytest.raises(InputError, match=sentence):
        read_ct(metaimage(tmp_path / "ct.mha", body, fields))


def test_complete_headers_give_the_stated_geometry_without_a_warning(tmp_path, body):
    expected = np.array([[1.3, 0, 0, 11], [0, 0.7, 0, -22], [0, 0, 2.5, 33], [0, 0, 0, 1]])
    short = nrrd(
        tmp_path / "ras.nrrd", body, NRRD | {"space": "RAS", "space origin": "(-11,22,33)", "space units": '"mm" "mm" "mm"'}
    )
    cases = [
        (nrrd(tmp_path / "a.nrrd", body, NRRD), expected),
        (short, np.diag([-1, -1, 1, 1]) @ [[1.3, 0, 0, -11], [0, 0.7, 0, 22], [0, 0, 2.5, 33], [0, 0, 0, 1]]),
        (metaimage(tmp_path / "a.mha", body, METAIMAGE), expected),
        (metaimage(tmp_path / "b.mha", body, without(METAIMAGE, "TransformMatrix", AnatomicalOrientation="RAI")), expected),
        (metaimage(tmp_path / "c.mha", body, METAIMAGE | {"Position": "11 -22 33", "AnatomicalOrientation": "???"}), expected),
    ]
    for path, affine in cases:
        volume = read_ct(path)
        assert np.allclose(volume.patient_from_voxel.numpy(), affine) and not volume.warnings


def test_lengths_in_other_units_are_converted(tmp_path, body):
    centimetres = {"space directions": "(0.13,0,0) (0,0.07,0) (0,0,0.25)", "space units": '"cm" "cm" "cm"'}
    volumes = [
        read_ct(nrrd(tmp_path / "ct.nrrd", body, NRRD | centimetres)),
        read_ct(metaimage(tmp_path / "ct.mha", body, METAIMAGE | {"ElementSpacing": "0.13 0.07 0.25", "DistanceUnits": "cm"})),
    ]
    assert all(volume.voxel_size_mm == pytest.approx(SIZES) for volume in volumes)
    assert all(volume.patient_from_voxel[:3, 3].tolist() == pytest.approx([110, -220, 330]) for volume in volumes)


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        (METAIMAGE | {"ElementSize": "1.3 0.7 5"}, ["ElementSpacing says 1.3 x 0.7 x 2.5 mm", "ElementSize 1.3 x 0.7 x 5 mm"]),
        (METAIMAGE | {"AnatomicalOrientation": "LPI"}, ["AnatomicalOrientation says LPI", "TransformMatrix is RAI"]),
        (without(METAIMAGE, "Offset"), ["states no origin"]),
    ],
)
def test_a_metaimage_with_a_weaker_contradiction_is_read_with_a_warning(tmp_path, body, fields, texts):
    (warning,) = statements(read_ct(metaimage(tmp_path / "ct.mha", body, fields)))
    assert all(text in warning for text in texts)


def test_a_nrrd_without_an_origin_is_read_with_a_warning(tmp_path, body):
    (warning,) = statements(read_ct(nrrd(tmp_path / "ct.nrrd", body, without(NRRD, "space origin"))))
    assert "states no origin" in warning


@pytest.mark.parametrize("name", ["ct.mha", "ct.nrrd", "ct.nii"])
def test_data_beyond_the_stated_size_give_a_warning_with_both_lengths(tmp_path, body, name):
    path = tmp_path / name
    image = SimpleITK.GetImageFromArray(body.astype(np.int16))
    image.SetSpacing(SIZES)
    SimpleITK.WriteImage(image, str(path), False)
    assert not statements(read_ct(path))
    length = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\0" * 384)
    (warning,) = statements(read_ct(path))
    assert f"holds {length + 384} bytes, but its header describes {length}" in warning


@pytest.mark.parametrize("name", ["ct.mha", "ct.nrrd", "ct.nii.gz", "dicom"])
def test_the_geometry_of_an_array_gives_a_warning_in_every_format(tmp_path, body, writer, name):
    if name == "dicom":
        path = writer.write(body, [[0, 0, k] for k in range(6)])[0].parent
    elif name == "ct.nii.gz":
        path = tmp_path / name
        nibabel.save(nibabel.Nifti1Image(body.transpose(2, 1, 0).astype(np.int16), np.eye(4)), path)
    else:
        path = tmp_path / name
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(body.astype(np.int16)), str(path))
    assert any(DEFAULT_GEOMETRY in warning for warning in read_ct(path).warnings)


@pytest.mark.parametrize(
    ("source", "name", "says"),
    [
        ("ct.nii.gz", "ct.nii", "gzip-compressed NIfTI"),
        ("ct.nii", "ct.nii.gz", "uncompressed NIfTI"),
        ("ct.nii.gz", "scan", "gzip-compressed NIfTI"),
        ("ct.nii", "ct.mha", "uncompressed NIfTI"),
        ("ct.mha", "ct.nii", "uncompressed MetaImage"),
        ("ct.nrrd", "ct.mha", "uncompressed NRRD"),
        ("ct.mha", "volume.dcm", "uncompressed MetaImage"),
    ],
)
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path, body, source, name, says):
    image = SimpleITK.GetImageFromArray(body.astype(np.int16))
    image.SetSpacing(SIZES)
    SimpleITK.WriteImage(image, str(tmp_path / source))
    right = read_ct(tmp_path / source)
    (tmp_path / "other").mkdir()
    renamed = shutil.copy(tmp_path / source, tmp_path / "other" / name)
    volume = read_ct(renamed)
    assert volume.fingerprint == right.fingerprint
    assert any(f"'{name}' contains {says}, which its name does not say" in warning for warning in volume.warnings)


@pytest.mark.parametrize("compression", ["bzip2", "zip", "gzip"])
def test_other_compressions_are_named(tmp_path, body, compression):
    plain = metaimage(tmp_path / "ct.mha", body, METAIMAGE)
    content = plain.read_bytes()
    if compression == "zip":
        with zipfile.ZipFile(plain, "w") as archive:
            archive.writestr("ct.mha", content)
    else:
        plain.write_bytes({"bzip2": bz2.compress, "gzip": gzip.compress}[compression](content))
    with pytest.raises(InputError, match=f"compressed with {compression}|gzip-compressed file, but only NIfTI"):
        read_ct(plain)
