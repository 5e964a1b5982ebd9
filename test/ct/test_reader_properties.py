"""Any CT comes back with the same points and HU, whoever wrote it: pydicom, nibabel or SimpleITK.

Each CT has a random orientation, spacing and origin, and is stored with a random type, slope and compression. A voxel of the
result is compared with the voxel that was written at its place in the patient.
"""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.reader import read_ct

REPEATABLE = settings(
    max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TYPES = ("int16", "uint16", "uint8", "int32", "float32", "float64")

shapes = st.tuples(*(st.integers(3, 7) for _ in range(3)))
seeds = st.integers(0, 2**20)


@st.composite
def geometries(draw: st.DrawFn, mirrored: bool) -> np.ndarray:
    """Return patient_from_voxel with a random rotation, or a multiple of 90 degrees, and possibly left-handed axes."""
    rng = np.random.default_rng(draw(seeds))
    rotation = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
    if draw(st.booleans()):
        rotation = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)[:, None]
    if not mirrored and np.linalg.det(rotation) < 0:
        rotation[:, 2] *= -1
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.3, 6.0, 3)
    affine[:3, 3] = rng.uniform(-800, 800, 3)
    return affine


def random_hu(seed: int, shape_ijk: tuple[int, int, int]) -> np.ndarray:
    """Return HU [k, j, i] from air to bone, with both ends present."""
    hu = np.random.default_rng(seed).integers(-1000, 2000, shape_ijk[::-1]).astype(np.float64)
    hu.flat[:2] = -1000, 1900
    return hu


def stored_range(kind: str) -> tuple[int, int]:
    return {"uint8": (0, 255), "uint16": (0, 4095), "int16": (-2048, 4095)}.get(kind, (-100_000, 100_000))


def stored_and_scale(seed: int, shape_ijk: tuple[int, int, int], kind: str) -> tuple[np.ndarray, float, float]:
    """Return stored values [k, j, i] of a type, and the slope and intercept that make HU of them."""
    rng = np.random.default_rng(seed)
    low, high = stored_range(kind)
    stored = rng.integers(low, high, shape_ijk[::-1], endpoint=True)
    stored.flat[:2] = low, high
    top = rng.uniform(800, 3000)
    slope = (top + 1000) / (high - low)
    slope = float(np.float32(slope if rng.random() < 0.5 else max(round(slope), 1) if slope > 0.6 else slope))
    return stored, slope, float(np.float32(-1000 - slope * low))


def check(path: Path, expected_hu: np.ndarray, patient_from_voxel: np.ndarray, tolerance_hu: float = 0.01) -> None:
    """Compare a CT with what was written; its grid may count the axes in another order or direction."""
    volume = read_ct(path)
    written_from_read = np.linalg.inv(patient_from_voxel) @ volume.patient_from_voxel.numpy()
    i, j, k = volume.shape_ijk
    corners = np.array([[x, y, z, 1.0] for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)])
    places = corners @ written_from_read.T
    points = places @ patient_from_voxel.T
    assert np.abs(points - np.round(places) @ patient_from_voxel.T).max() < 2e-3  # mm
    index = np.stack(np.meshgrid(range(i), range(j), range(k), indexing="ij"), -1).reshape(-1, 3)
    place = np.round(np.c_[index, np.ones(len(index))] @ written_from_read.T).astype(int)[:, :3]
    assert sorted(map(tuple, place)) == sorted(np.ndindex(expected_hu.shape[::-1]))
    read = volume.attenuation.numpy()[index[:, 2], index[:, 1], index[:, 0]]
    hu = expected_hu[place[:, 2], place[:, 1], place[:, 0]]
    hu = np.where(hu < -1024, -1000, hu)
    ends = (attenuation_from_hu((hu + step).astype(np.float32)) for step in (-tolerance_hu, tolerance_hu))
    low, high = ends
    assert (read >= low - 1e-9).all() and (read <= high + 1e-9).all()
    assert volume.hu_range == pytest.approx((hu.min(), hu.max()), abs=tolerance_hu)


# NIfTI


@REPEATABLE
@given(
    shape=shapes,
    affine=geometries(mirrored=True),
    kind=st.sampled_from(TYPES),
    form=st.sampled_from(["sform", "qform", "both"]),
    unit=st.sampled_from(["mm", "meter", "micron", "unknown"]),
    compressed=st.booleans(),
    extra_axis=st.booleans(),
    seed=seeds,
)
def test_any_nifti(shape, affine, kind, form, unit, compressed, extra_axis, seed):
    nibabel = pytest.importorskip("nibabel")
    stored, slope, intercept = stored_and_scale(seed, shape, kind)
    data = stored.transpose(2, 1, 0).astype(kind)
    scale = {"meter": 1e-3, "micron": 1e3}.get(unit, 1.0)
    in_file = LPS_FROM_RAS @ affine
    in_file[:3] *= scale
    image = nibabel.Nifti1Image(data[..., None] if extra_axis else data, None)
    image.header.set_xyzt_units(unit)
    image.set_sform(in_file if form != "qform" else None, code=2 if form != "qform" else 0)
    image.set_qform(in_file if form != "sform" else None, code=1 if form != "sform" else 0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("ct.nii.gz" if compressed else "ct.nii")
        nibabel.save(image, Path(folder) / "plain.nii")
        content = bytearray((Path(folder) / "plain.nii").read_bytes())
        content[112:120] = np.array([slope, intercept], "<f4").tobytes()
        path.write_bytes(gzip.compress(content) if compressed else content)
        check(path, stored * slope + intercept, affine, tolerance_hu=max(0.02, 1e-6 * slope * np.abs(stored).max()))


# NRRD and MetaImage


@REPEATABLE
@given(
    shape=shapes,
    affine=geometries(mirrored=True),
    kind=st.sampled_from(TYPES[:1] + TYPES[3:]),
    suffix=st.sampled_from([".nrrd", ".nhdr", ".mha", ".mhd"]),
    compressed=st.booleans(),
    seed=seeds,
)
def test_any_nrrd_or_metaimage(shape, affine, kind, suffix, compressed, seed):
    sitk = pytest.importorskip("SimpleITK")
    hu = random_hu(seed, shape)
    image = sitk.GetImageFromArray(hu.astype(kind))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"ct{suffix}"
        sitk.WriteImage(image, str(path), useCompression=compressed)
        check(path, hu, affine)


# DICOM

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg 2000": JPEG2000Lossless,
}
ENCODED = ("rle", "jpeg-ls", "jpeg 2000")
_HU_RANGE = 4000  # stored values: no material has 60000 HU


@REPEATABLE
@given(
    shape=shapes,
    affine=geometries(mirrored=True),
    bits=st.integers(12, 16),
    low_bits=st.integers(0, 4),
    signed=st.booleans(),
    slopes=st.sampled_from(["one", "odd", "per slice"]),
    tilt=st.sampled_from([0.0, 0.0, 0.4]),
    padding=st.booleans(),
    syntax=st.sampled_from(sorted(SYNTAXES)),
    seed=seeds,
)
def test_any_dicom_series(shape, affine, bits, low_bits, signed, slopes, tilt, padding, syntax, seed):
    rng = np.random.default_rng(seed)
    if syntax in ENCODED:
        shape = (shape[0] + 64, shape[1] + 64, shape[2])  # wavelets need an image larger than their filters
    affine = affine.copy()
    affine[:3, 2] += tilt * np.linalg.norm(affine[:3, 2]) * affine[:3, 1] / np.linalg.norm(affine[:3, 1])  # gantry tilt
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    bottom = int(rng.integers(low, max(high - _HU_RANGE, low), endpoint=True))  # anywhere in the range of the type
    stored = rng.integers(bottom, min(bottom + _HU_RANGE, high), shape[::-1], endpoint=True)
    stored.flat[:2] = bottom, bottom + 2900
    if syntax in ENCODED:
        stored = np.sort(stored, axis=1)  # noise does not fit into the encoders' buffers
    expected = np.empty(stored.shape)
    shift = min(low_bits, 16 - bits) if syntax not in ENCODED else 0
    with TemporaryDirectory() as folder:
        series, frame = generate_uid(), generate_uid()
        for number, k in enumerate(rng.permutation(shape[2])):
            slope = {"one": 1.0, "odd": 0.37, "per slice": 0.5 + 0.1 * k}[slopes]
            intercept = round(-1000 - slope * bottom, 2)
            plane = stored[k].copy()
            header: dict[str, Any] = {"RescaleSlope": f"{slope:.6g}", "RescaleIntercept": f"{intercept:.8g}"}
            if padding:
                plane[plane == bottom] += 1
                plane[0, 0] = bottom
                header["PixelPaddingValue"] = bottom
            expected[k] = np.where(padding & (plane == bottom), -1000, plane * slope + intercept)
            header |= {"SeriesInstanceUID": series, "FrameOfReferenceUID": frame}
            _write_slice(Path(folder) / f"{number}.dcm", plane, affine, k, bits, shift, signed, SYNTAXES[syntax], header)
        check(Path(folder), expected, affine)


def _write_slice(
    path: Path,
    plane: np.ndarray,
    affine: np.ndarray,
    k: int,
    bits: int,
    shift: int,
    signed: bool,
    syntax: str,
    header: dict[str, Any],
) -> None:
    encoded = syntax in [SYNTAXES[name] for name in ENCODED]
    plain = ExplicitVRLittleEndian if encoded else syntax
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = plain
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = "CT", 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1 + shift
    dataset.PixelRepresentation = int(signed)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :2] / steps[:2]
    dataset.ImageOrientationPatient = [f"{value:.12f}"[:16] for value in directions.T.ravel()]
    dataset.ImagePositionPatient = [f"{value:.10f}"[:16] for value in affine[:3, 3] + k * affine[:3, 2]]
    dataset.PixelSpacing = [f"{steps[1]:.12f}", f"{steps[0]:.12f}"]
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    words = ((plane.astype(np.int64) & ((1 << bits) - 1)) << shift).astype(np.uint16)
    dataset.PixelData = words.astype(">u2" if plain == ExplicitVRBigEndian else "<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    if encoded:
        dataset.compress(syntax, plane.astype(np.int16 if signed else np.uint16), generate_instance_uid=False)
    else:
        dataset.set_original_encoding(plain.is_implicit_VR, plain.is_little_endian)
    dataset.save_as(path, enforce_file_format=True)
