"""Readers of NIfTI (with nibabel) and of NRRD and MetaImage (with SimpleITK). Both libraries are an optional extra.

NIfTI's coordinates are RAS+ and are converted to LPS with diag(-1, -1, 1); SimpleITK always returns LPS. Left-handed voxel axes
are kept, because the affine represents them. The header is checked before pixels are read, so that a decompression bomb is
rejected while it is small. SimpleITK is restricted to the one reader of the format, because its others parse formats that are
not supported here.
"""

import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from fluoro_reg.ct.hounsfield import check_affine, check_size, volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

VOLUME_FORMATS = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd)"
_NIFTI = (".nii", ".nii.gz")
_ITK_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_NIFTI_ERRORS = (OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error)  # what nibabel raises for a bad file
_INSTALL = 'pip install "fluoro_reg[formats]"'


def is_volume_file(path: Path) -> bool:
    """Whether the file name has the suffix of one of the supported formats."""
    return path.name.lower().endswith((*_NIFTI, *_ITK_READERS))


def read_volume_file(path: Path) -> CTVolume:
    """Read one NIfTI, NRRD or MetaImage file.

    Raises:
        InputError: The file is damaged, or it is not a CT of known geometry in HU.
    """
    return _read_nifti(path) if path.name.lower().endswith(_NIFTI) else _read_itk(path)


def _read_nifti(path: Path) -> CTVolume:
    nibabel = _import_extra("nibabel", "NIfTI")
    where = f"'{path.name}'"
    try:
        image = nibabel.load(path)
        shape = _without_trailing_ones(image.shape)
        check_size(shape, where)
        if np.dtype(image.get_data_dtype()).kind not in "iuf":
            raise InputError(f"{where} contains colours or complex numbers; give a CT with one HU value per voxel")
        warnings = _nifti_orientation_warnings(image.header, where)
        patient_from_voxel = _LPS_FROM_RAS @ image.affine
        patient_from_voxel[:3] *= _MM_PER_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
        check_affine(patient_from_voxel, where)
        values = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
    except InputError:
        raise
    except (*_NIFTI_ERRORS, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise _damaged_file_error(where, "NIfTI") from error
    return volume_from_hu(_writable_copy(values.transpose(2, 1, 0)), patient_from_voxel, where, warnings)


def _nifti_orientation_warnings(header: Any, where: str) -> list[str]:
    """Compare the two geometries of a NIfTI. A file without any is rejected, because its left and right are unknown."""
    sform, qform = header.get_sform(coded=True), header.get_qform(coded=True)
    if sform[0] is None and qform[0] is None:
        raise InputError(f"{where} has no orientation (sform and qform codes are 0); write it again with its affine")
    if sform[0] is not None and qform[0] is not None and not np.allclose(sform[0], qform[0], atol=0.05):
        return ["the NIfTI's sform and qform disagree: the sform is used"]
    return []


def _read_itk(path: Path) -> CTVolume:
    sitk = _import_extra("SimpleITK", "NRRD and MetaImage")
    where = f"'{path.name}'"
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_ITK_READERS[path.suffix.lower()])
    try:
        with _silent_standard_error():  # ITK prints its errors there, with paths, before it raises them
            reader.ReadImageInformation()
            check_size(_without_trailing_ones(reader.GetSize()), where)
            if reader.GetNumberOfComponents() != 1:
                raise InputError(f"{where} contains colours or vectors; give a CT with one HU value per voxel")
            reader.SetOutputPixelType(sitk.sitkFloat32)
            image = reader.Execute()
    except RuntimeError as error:
        raise _damaged_file_error(where, "NRRD or MetaImage") from error
    image = image[:, :, :, 0] if image.GetDimension() == 4 else image
    return volume_from_hu(_writable_copy(sitk.GetArrayViewFromImage(image)), _itk_affine(image), where)


def _itk_affine(image: Any) -> Float[np.ndarray, "4 4"]:
    patient_from_voxel = np.eye(4)
    patient_from_voxel[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    patient_from_voxel[:3, 3] = image.GetOrigin()
    return patient_from_voxel


def _writable_copy(values: np.ndarray) -> Float32[np.ndarray, "slices rows columns"]:
    """Return a contiguous copy in [k, j, i] order."""
    return np.array(values, dtype=np.float32, order="C")


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return tuple(int(n) for n in shape)


def _damaged_file_error(where: str, kind: str) -> InputError:
    return InputError(f"{where} cannot be read as {kind}: the file is damaged or truncated; export it again")


def _import_extra(module: str, formats: str) -> ModuleType:
    try:
        return __import__(module)
    except ImportError as error:
        raise InputError(f"reading {formats} needs {module}: {_INSTALL}") from error


@contextmanager
def _silent_standard_error() -> Iterator[None]:
    """Redirect file descriptor 2, to which C libraries write, to the null device."""
    sys.stderr.flush()
    saved, null_device = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null_device)
