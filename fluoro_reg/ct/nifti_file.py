"""Reader of NIfTI, with nibabel. Its coordinates are RAS+ and are converted to LPS with diag(-1, -1, 1).

A NIfTI states its geometry up to three times: sform (an affine), qform (a rotation with pixdim) and pixdim (the size of a
voxel). Which of them holds where they disagree is a convention that programs do not share. A disagreement in the size of
voxels, in left and right, or in the direction of the axes is therefore rejected. A smaller one gives a warning, and the sform
is used. Left-handed voxel axes are kept, because the affine represents them. The header is checked before pixels are read, so
that a decompression bomb is rejected while it is small.
"""

import gzip
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fluoro_reg.ct.hounsfield import check_affine, check_size
from fluoro_reg.ct.optional_reader import (
    damaged_file_error,
    import_extra,
    surplus_warnings,
    without_trailing_ones,
    writable_copy,
)
from fluoro_reg.ct.raw_grid import RawGrid
from fluoro_reg.errors import InputError

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_ERRORS = (OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error)  # what nibabel raises for a bad file
_SIZE_TOLERANCE = 0.01
_SHIFT_TOLERANCE_MM = 0.1  # a qform is a quaternion of 32-bit floats
_MAXIMUM_ROTATION_DEG = 30.0  # an sform that was aligned to a template turns the head by less
_SIZEOF_NIFTI2_HEADER = 540
_ADVICE = "write the file again with one geometry"


def read_nifti(path: Path, compressed: bool, warnings: list[str]) -> RawGrid:
    """Read a NIfTI file, compressed with gzip or not, whatever its name.

    Raises:
        InputError: The file is damaged, or it is not a volume of known geometry.
    """
    nibabel = import_extra("nibabel", "NIfTI")
    where = f"'{path.name}'"
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            is_nifti2 = _SIZEOF_NIFTI2_HEADER in (int.from_bytes(head := stream.read(4), "little"), int.from_bytes(head, "big"))
            stream.seek(0)
            image = (nibabel.Nifti2Image if is_nifti2 else nibabel.Nifti1Image).from_stream(stream)
            shape = without_trailing_ones(image.shape)
            check_size(shape, where)
            if np.dtype(image.get_data_dtype()).kind not in "iuf":
                raise InputError(f"{where} contains colours or complex numbers; give a CT with one HU value per voxel")
            patient_from_voxel = _LPS_FROM_RAS @ image.affine
            patient_from_voxel[:3] *= _MM_PER_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
            check_affine(patient_from_voxel, where)
            warnings = [*warnings, *_geometry_warnings(image.header, shape, where)]
            values = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
            if not compressed:
                warnings += _length_warnings(path, image)
    except InputError:
        raise
    except (
        *_ERRORS,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
    ) as error:
        raise damaged_file_error(where, "NIfTI") from error
    return RawGrid(writable_copy(values.transpose(2, 1, 0)), patient_from_voxel, tuple(warnings))


def _geometry_warnings(header: Any, shape: tuple[int, ...], where: str) -> list[str]:
    """Compare what a NIfTI states about its geometry. A file without any is rejected: its left and right are unknown.

    Raises:
        InputError: The file states no orientation, or two that differ by more than a small rotation and shift.
    """
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        raise InputError(f"{where} has no orientation (sform and qform codes are 0); write it again with its affine")
    if sform is None:
        return []
    if qform is not None:
        return _compare_forms(sform, qform, shape, where)
    sizes, pixdim = np.linalg.norm(sform[:3, :3], axis=0), np.abs(np.array(header["pixdim"][1:4], dtype=np.float64))
    if _same_sizes(sizes, pixdim) or not np.isfinite(sizes).all():
        return []
    statement = f"pixdim says voxels of {_text(pixdim)} mm, but the sform {_text(sizes)} mm"
    if not np.isin(pixdim, (0.0, 1.0)).all():
        raise InputError(f"{where} contradicts itself: {statement}; {_ADVICE}")
    return [f"{statement}: the sform is used, because 0 and 1 are what programs write by default"]


def _compare_forms(
    sform: Float[np.ndarray, "4 4"], qform: Float[np.ndarray, "4 4"], shape: tuple[int, ...], where: str
) -> list[str]:
    if not np.isfinite(sform).all() or not np.isfinite(qform).all():
        return []  # check_affine reports it
    sizes = [np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
    if not _same_sizes(*sizes):
        raise InputError(
            f"{where} contradicts itself: the sform has voxels of {_text(sizes[0])} mm, the qform (pixdim) of "
            f"{_text(sizes[1])} mm; {_ADVICE}"
        )
    axes = [form[:3, :3] / size for form, size in zip((sform, qform), sizes, strict=True)]
    cosine = float(np.clip((axes[0] * axes[1]).sum(axis=0), -1, 1).min())
    if cosine < np.cos(np.radians(_MAXIMUM_ROTATION_DEG)):
        raise InputError(
            f"{where} contradicts itself: an axis of the sform ({_letters(axes[0])}) and of the qform ({_letters(axes[1])}) "
            f"differ by {np.degrees(np.arccos(cosine)):.0f} degrees; {_ADVICE}"
        )
    corners = np.array([[*corner, 1.0] for corner in product(*((0, n - 1) for n in shape))])
    shift = float(np.linalg.norm(corners @ (sform - qform).T, axis=1).max())
    if shift <= _SHIFT_TOLERANCE_MM:
        return []
    return [
        f"the NIfTI's sform and qform disagree by {shift:.1f} mm at a corner of the grid (first voxel at {_text(sform[:3, 3])} "
        f"and {_text(qform[:3, 3])} mm): the sform is used"
    ]


def _same_sizes(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> bool:
    return bool((np.abs(a - b) <= _SIZE_TOLERANCE * np.maximum(a, b)).all())


def _letters(axes: Float[np.ndarray, "3 3"]) -> str:
    """Return the patient direction (R or L, A or P, S or I) that each voxel axis points to, for an affine in RAS."""
    pairs = (("L", "R"), ("P", "A"), ("I", "S"))
    nearest = np.abs(axes).argmax(axis=0)
    return "".join(pairs[row][int(axes[row, column] > 0)] for column, row in enumerate(nearest))


def _text(values: Float[np.ndarray, "3"]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _length_warnings(path: Path, image: Any) -> list[str]:
    stated = image.dataobj.offset + int(np.prod(image.shape)) * np.dtype(image.get_data_dtype()).itemsize
    return surplus_warnings(stated, path.stat().st_size, path.name)
