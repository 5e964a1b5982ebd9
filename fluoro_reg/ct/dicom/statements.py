"""What the header of a slice states about geometry that its position and pixel spacing state already.

The positions (ImagePositionPatient) and PixelSpacing make the volume. The other statements do not enter it, but where they
disagree beyond rounding, one of the two is wrong, and the user reads both values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import Dataset

from fluoro_reg.ct.dicom.attributes import find, optional_number, optional_numbers

_RELATIVE_TOLERANCE = 0.01  # headers round to two or three digits
_ABSOLUTE_TOLERANCE_MM = 0.01
_DIAMETER_TOLERANCE = 0.03  # reconstruction diameters are nominal
_THICKEST = 3.0  # slices overlap by up to this factor of their step in ordinary reconstructions
_OTHER_PIXEL_SPACINGS = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")
_DOUBLED = (
    ("PixelMeasuresSequence", "PixelSpacing"),
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PlanePositionSequence", "ImagePositionPatient"),
    ("PixelValueTransformationSequence", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept"),
)


@dataclass(frozen=True, slots=True)
class Statements:
    """The redundant statements of a slice, in mm and degrees; None where the header states nothing.

    Attributes:
        step: SpacingBetweenSlices.
        thickness: SliceThickness.
        location: SliceLocation.
        tilt: GantryDetectorTilt; 0 if unstated.
        diameter: ReconstructionDiameter.
        pixel_spacings: Other statements of the pixel spacing (row, column), by keyword.
    """

    step: float | None
    thickness: float | None
    location: float | None
    tilt: float
    diameter: float | None
    pixel_spacings: tuple[tuple[str, tuple[float, float]], ...]


def read_statements(dataset: Dataset, sources: Sequence[Dataset]) -> Statements:
    """Read the redundant statements of a slice; `sources` are searched first, the most specific first."""

    def number(macro: str, keyword: str) -> float | None:
        return optional_number(find([*sources, dataset], macro, keyword))

    others = [(keyword, optional_numbers(dataset.get(keyword), 2)) for keyword in _OTHER_PIXEL_SPACINGS]
    return Statements(
        step=number("PixelMeasuresSequence", "SpacingBetweenSlices"),
        thickness=number("PixelMeasuresSequence", "SliceThickness"),
        location=number("", "SliceLocation"),
        tilt=number("CTAcquisitionDetailsSequence", "GantryDetectorTilt") or 0.0,
        diameter=number("CTReconstructionSequence", "ReconstructionDiameter"),
        pixel_spacings=tuple((keyword, (pair[0], pair[1])) for keyword, pair in others if pair is not None),
    )


def doubled_statements(dataset: Dataset, groups: Sequence[Dataset]) -> list[str]:
    """Return warnings about attributes that an enhanced file states both at its top level and, otherwise, in its groups."""
    warnings = []
    for macro, keyword in _DOUBLED:
        value = find([dataset], macro, keyword)
        count = 1 if isinstance(value, (str, float, int)) else len(value or [])
        stated, used = (optional_numbers(found, count) for found in (value, find(groups, macro, keyword)))
        if stated and used and not np.allclose(stated, used, rtol=1e-4, atol=1e-4):
            texts = ["\\".join(f"{number:g}" for number in numbers) for numbers in (stated, used)]
            warnings.append(
                f"{keyword} is {texts[0]} at the top level and {texts[1]} in the functional groups: the groups are used"
            )
    return warnings


def pixel_spacing_warnings(stated: Statements, spacing: tuple[float, float], size: tuple[int, int]) -> list[str]:
    """Compare PixelSpacing (row, column; mm) and the size of the image (rows, columns) with what else the header states."""
    used = f"{spacing[0]:.4g} x {spacing[1]:.4g} mm"
    warnings = [
        f"{keyword} says {other[0]:.4g} x {other[1]:.4g} mm, but PixelSpacing {used}: PixelSpacing is used"
        for keyword, other in stated.pixel_spacings
        if min(other) > 0 and not all(map(_agree, other, spacing))
    ]
    extent = max(spacing[0] * size[0], spacing[1] * size[1])
    if stated.diameter and abs(extent - stated.diameter) > _DIAMETER_TOLERANCE * extent:
        warnings.append(
            f"ReconstructionDiameter says {stated.diameter:.1f} mm, but PixelSpacing {used} gives an image of {extent:.1f} mm: "
            "PixelSpacing is used; this is right if the image was cropped or padded"
        )
    return warnings


def step_warnings(
    stated: Sequence[Statements], heights: Float64[np.ndarray, "n"], positions: Float64[np.ndarray, "n 3"]
) -> list[str]:
    """Compare the steps between the positions of slices, in order, with what else the header states.

    Args:
        stated: The statements of each slice.
        heights: The position of each slice along the normal, mm.
        positions: ImagePositionPatient of each slice, mm.
    """
    along = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    steps = np.abs(np.diff(heights))
    text = f"are {_numbers(steps)} apart"
    warnings = []
    step, thickness = (_common([getattr(one, name) for one in stated]) for name in ("step", "thickness"))
    if step and not any(_within(abs(step), measured) for measured in (steps, along)):
        warnings.append(f"SpacingBetweenSlices says {abs(step):.3g} mm, but the slice positions {text}: the positions are used")
    if thickness and thickness > _THICKEST * steps.max():
        warnings.append(
            f"SliceThickness says {thickness:.3g} mm, but the slice positions {text}, so that slices would overlap "
            f"{thickness / steps.max():.0f} times: the positions are used"
        )
    elif thickness and not _within(thickness, steps) and thickness < steps.min():
        warnings.append(
            f"SliceThickness says {thickness:.3g} mm, but the slice positions {text}: what lies between is interpolated"
        )
    locations = [one.location for one in stated if one.location is not None]
    if len(locations) == len(stated):
        located = np.abs(np.diff(locations))
        expected = (steps, along, *np.abs(np.diff(positions, axis=0)).T)
        if not any(_all_agree(located, measured) for measured in expected):
            warnings.append(
                f"SliceLocation has steps of {_numbers(located)}, but the slice positions {text}: the positions are used"
            )
    return warnings


def _common(values: list[float | None]) -> float | None:
    """Return the number that all slices state; None if they state different ones or none."""
    numbers = {value for value in values if value is not None}
    return numbers.pop() if len(numbers) == 1 else None


def _agree(a: float, b: float) -> bool:
    return abs(a - b) <= max(_ABSOLUTE_TOLERANCE_MM, _RELATIVE_TOLERANCE * abs(b))


def _all_agree(values: Float64[np.ndarray, "n"], expected: Float64[np.ndarray, "n"]) -> bool:
    tolerance = np.maximum(_ABSOLUTE_TOLERANCE_MM, 5 * _RELATIVE_TOLERANCE * np.abs(expected))
    return bool((np.abs(values - expected) <= tolerance).all())


def _within(value: float, steps: Float64[np.ndarray, "n"]) -> bool:
    """Whether a stated step is one of the steps, up to rounding, or lies between the smallest and the largest."""
    low, high = float(steps.min()), float(steps.max())
    return _agree(value, low) or _agree(value, high) or low < value < high


def _numbers(steps: Float64[np.ndarray, "n"]) -> str:
    low, high = float(steps.min()), float(steps.max())
    return f"{low:.3g} mm" if _agree(low, high) else f"{low:.3g} to {high:.3g} mm"
