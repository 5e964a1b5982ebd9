"""Whether NRRD and MetaImage state the geometry that a library returns for them, and whether their statements agree.

A library's defaults (1 mm, axes along LPS, origin 0) are not facts. Without the size of a voxel or the direction of its axes a
file is rejected, like a NIfTI in that state. Without an origin it is read with a warning, because a pose can still be found
relative to it.
"""

import re

import numpy as np

from fluoro_reg.ct.text_header import TextHeader, quotable
from fluoro_reg.errors import InputError

_ADVICE = "write it again with its geometry"
_NO_ORIGIN = "the file states no origin: the first voxel is taken to be at the origin of the patient frame"
_NRRD_SPACES = (
    *("ras", "las", "lps", "right-anterior-superior", "left-anterior-superior", "left-posterior-superior"),
    *("rast", "last", "lpst", "right-anterior-superior-time", "left-anterior-superior-time", "left-posterior-superior-time"),
)
_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "\N{MICRO SIGN}m": 0.001}
_UNSTATED_UNITS = ("", "?", "none", "unknown", "???")
_RELATIVE_TOLERANCE = 0.01
_ITK_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))  # ITK names the side that an axis comes from, of an affine in LPS


def check_nrrd(header: TextHeader, where: str) -> tuple[float, list[str]]:
    """Check that the header of a NRRD states the size and the directions of voxels.

    Returns:
        Millimetres per unit of length, and warnings.

    Raises:
        InputError: It does not, or states two different ones.
    """
    space, directions = header.get("space").lower(), header.get("spacedirections")
    vectors = re.findall(r"\(([^)]*)\)", directions)
    if not directions or len(vectors) < 3:
        missing = "no space directions" if not directions else "space directions for fewer than three axes"
        raise InputError(f"{where} states {missing}, so that the size or orientation of its voxels is unknown; {_ADVICE}")
    if space not in _NRRD_SPACES:
        stated = f"the space '{quotable(space)}'" if space else "no space"
        raise InputError(f"{where} states {stated}, so that its left and right are unknown; {_ADVICE}, in LPS or RAS")
    if any(np.isfinite(header.numbers("spacings"))):
        stated = f"spacings ({quotable(header.get('spacings'))}) and space directions ({quotable(directions)})"
        raise InputError(f"{where} states the size of its voxels twice, as {stated}; remove the spacings if the other is right")
    units = {unit.strip().lower() for unit in re.findall(r'"([^"]*)"', header.get("spaceunits"))}
    return _mm_per_unit(units, where), [] if header.get("spaceorigin") else [_NO_ORIGIN]


def check_metaimage(header: TextHeader, where: str) -> tuple[float, list[str]]:
    """Check that the header of a MetaImage states the size and the directions of voxels.

    Returns:
        Millimetres per unit of length, and warnings.

    Raises:
        InputError: It does not, or states two different ones.
    """
    spacing, size = header.numbers("ElementSpacing"), header.numbers("ElementSize")
    if not spacing and not size:
        raise InputError(f"{where} states no ElementSpacing, so that the size of its voxels is unknown; {_ADVICE}")
    warnings = []
    if len(spacing) == len(size) and not np.allclose(spacing, size, rtol=_RELATIVE_TOLERANCE):
        warnings.append(f"ElementSpacing says {_text(spacing)} mm, but ElementSize {_text(size)} mm: ElementSpacing is used")
    letters, matrix = header.get("AnatomicalOrientation").upper(), header.numbers("TransformMatrix")
    stated = "" if "?" in letters else letters
    found = _itk_letters(matrix or np.eye(3).ravel().tolist())
    if not matrix and stated != found:
        says = f"AnatomicalOrientation {stated} but no TransformMatrix" if stated else "no TransformMatrix"
        raise InputError(f"{where} states {says}, so that the direction of its axes is unknown; {_ADVICE}")
    if stated and found and stated != found:
        warnings.append(f"AnatomicalOrientation says {stated}, but TransformMatrix is {found}: TransformMatrix is used")
    if not header.get("Offset"):
        warnings.append(_NO_ORIGIN)
    return _mm_per_unit({header.get("DistanceUnits").lower()}, where), warnings


def _mm_per_unit(units: set[str], where: str) -> float:
    stated = {unit for unit in units if unit not in _UNSTATED_UNITS}
    if len(stated) > 1 or not stated <= _MM_PER_UNIT.keys():
        raise InputError(
            f"{where} states lengths in {' and '.join(quotable(unit) for unit in sorted(stated))}; {_ADVICE} in mm"
        )
    return _MM_PER_UNIT[stated.pop()] if stated else 1.0


def _itk_letters(matrix: list[float]) -> str:
    """Return ITK's letters for a TransformMatrix, which lists the direction of each axis in LPS; empty if it is not 3 x 3."""
    if len(matrix) != 9:
        return ""
    axes = np.array(matrix).reshape(3, 3)
    return "".join(_ITK_LETTERS[index][int(axis[index] < 0)] for axis in axes for index in [int(np.abs(axis).argmax())])


def _text(values: list[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
