"""Reader of NRRD and MetaImage, with SimpleITK, which always returns LPS.

SimpleITK fills in what a header does not state, so that `text_header` reads the header first. SimpleITK is restricted to the
one reader of the format, because its others parse formats that are not supported here.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fluoro_reg.ct.hounsfield import check_size
from fluoro_reg.ct.optional_reader import (
    damaged_file_error,
    import_extra,
    surplus_warnings,
    without_trailing_ones,
    writable_copy,
)
from fluoro_reg.ct.raw_grid import RawGrid
from fluoro_reg.ct.stated_geometry import check_metaimage, check_nrrd
from fluoro_reg.ct.text_header import TextHeader, read_metaimage_header, read_nrrd_header
from fluoro_reg.errors import InputError

_READERS = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}
_LOCAL_DATA = ("LOCAL", "")


def read_itk(path: Path, kind: str, warnings: list[str]) -> RawGrid:
    """Read a file of kind NRRD or MetaImage, whatever its name.

    Raises:
        InputError: The file is damaged, or it is not a volume of known geometry.
    """
    sitk = import_extra("SimpleITK", "NRRD and MetaImage")
    where = f"'{path.name}'"
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[kind])
    try:
        header, mm_per_unit, geometry_warnings = _stated_geometry(path, kind, where)
        warnings = [*warnings, *geometry_warnings]
        with _silent_standard_error():  # ITK prints its errors there, with paths, before it raises them
            reader.ReadImageInformation()
            check_size(without_trailing_ones(reader.GetSize()), where)
            if reader.GetNumberOfComponents() != 1:
                raise InputError(f"{where} contains colours or vectors; give a CT with one HU value per voxel")
            warnings = [*warnings, *_length_warnings(path, header, reader)]
            reader.SetOutputPixelType(sitk.sitkFloat32)
            image = reader.Execute()
    except RuntimeError as error:
        raise damaged_file_error(where, "NRRD or MetaImage") from error
    image = image[:, :, :, 0] if image.GetDimension() == 4 else image
    affine = _affine(image)
    affine[:3] *= mm_per_unit
    return RawGrid(writable_copy(sitk.GetArrayViewFromImage(image)), affine, tuple(warnings))


def _stated_geometry(path: Path, kind: str, where: str) -> tuple[TextHeader, float, list[str]]:
    """Return the header, the millimetres per unit of length, and warnings, if the header states a geometry."""
    if kind == "NRRD":
        header = read_nrrd_header(path, where)
        return header, *check_nrrd(header, where)
    header = read_metaimage_header(path, where)
    return header, *check_metaimage(header, where)


def _affine(image: Any) -> Float[np.ndarray, "4 4"]:
    patient_from_voxel = np.eye(4)
    patient_from_voxel[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    patient_from_voxel[:3, 3] = image.GetOrigin()
    return patient_from_voxel


def _length_warnings(path: Path, header: TextHeader, reader: Any) -> list[str]:
    """Compare the length of uncompressed data in the file itself with the stated size."""
    compressed = header.get("CompressedData").lower() == "true" or header.get("encoding") not in ("", "raw")
    if compressed or header.get("ElementDataFile", "datafile") not in _LOCAL_DATA or header.get("byteskip", "lineskip"):
        return []
    stated = header.length + int(np.prod(reader.GetSize())) * _bytes_per_voxel(reader.GetPixelID())
    return surplus_warnings(stated, path.stat().st_size, path.name)


def _bytes_per_voxel(pixel_id: int) -> int:
    bits = import_extra("SimpleITK", "NRRD and MetaImage").GetPixelIDValueAsString(pixel_id)  # such as "16-bit signed integer"
    return int(bits.split("-")[0]) // 8


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
