"""What the header of an X-ray states twice: spacing, distances, times and how the pixels are to be displayed.

The camera and the times are read from one of the statements. Where another disagrees beyond rounding, one of the two is wrong,
such as the spacing of a detector beside pixels that were binned afterwards, and the user reads both values.
"""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from fluoro_reg.xray.dicom.geometry import lookup, numbers

_TOLERANCE = 0.02
_FIELD_TOLERANCE = 0.05  # fields of view are rounded to centimetres
_GROUPED = (("DistanceSourceToDetector", 1), ("ImagerPixelSpacing", 2), ("PixelIntensityRelationshipSign", 1))
_DISPLAY = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


def statement_warnings(dataset: Dataset, frame: int) -> list[str]:
    """Return the contradictions of a header, each with both values."""
    return [
        *_display_warnings(dataset),
        *_spacing_warnings(dataset, frame),
        *_distance_warnings(dataset, frame),
        *_time_warnings(dataset),
        *_grouped_warnings(dataset, frame),
    ]


def _positive(dataset: Dataset, keyword: str, count: int, frame: int) -> list[float] | None:
    value = numbers(lookup(dataset, keyword, frame), count)
    return value if value is not None and min(value) > 0 else None


def _agree(a: float, b: float, tolerance: float = _TOLERANCE) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def _display_warnings(dataset: Dataset) -> list[str]:
    photometric, shape = (str(dataset.get(name, "") or "") for name in ("PhotometricInterpretation", "PresentationLUTShape"))
    if photometric not in _DISPLAY or shape not in _DISPLAY.values() or _DISPLAY[photometric] == shape:
        return []
    return [
        f"PhotometricInterpretation {photometric} and PresentationLUTShape {shape} contradict each other: the image decides "
        "which of its greys are dense"
    ]


def _spacing_warnings(dataset: Dataset, frame: int) -> list[str]:
    """Compare ImagerPixelSpacing, from which the focal lengths are computed, with the other sizes of pixels and fields."""
    spacing = _positive(dataset, "ImagerPixelSpacing", 2, frame)
    if spacing is None:
        return []
    used, warnings = f"ImagerPixelSpacing {_text(spacing)} mm", []
    extent = [step * float(dataset.get(keyword, 0) or 0) for step, keyword in zip(spacing, ("Rows", "Columns"), strict=True)]
    field = _positive(dataset, "FieldOfViewDimensions", 2, frame) or _positive(dataset, "FieldOfViewDimensions", 1, frame)
    if field is not None and not _agree(max(extent), max(field), _FIELD_TOLERANCE):
        warnings.append(
            f"FieldOfViewDimensions says {_text(field)} mm, but {used} gives an image of {_text(extent)} mm: the spacing is "
            "used; if the image was binned or resized, it is wrong, and camera.json has to give the focal lengths"
        )
    active = _positive(dataset, "DetectorActiveDimensions", 2, frame)
    if active is not None and max(extent) > (1 + _TOLERANCE) * max(active):
        warnings.append(f"DetectorActiveDimensions says {_text(active)} mm, but {used} gives an image of {_text(extent)} mm")
    element = _positive(dataset, "DetectorElementSpacing", 2, frame)
    if element is not None and min(spacing) < (1 - _TOLERANCE) * min(element):
        warnings.append(f"DetectorElementSpacing says {_text(element)} mm, but {used} is smaller: the smaller one is used")
    in_patient = _positive(dataset, "PixelSpacing", 2, frame)
    if in_patient is not None:
        ratios = [a / b for a, b in zip(in_patient, spacing, strict=True)]
        if max(ratios) > 1 + _TOLERANCE or not _agree(*ratios):
            warnings.append(
                f"PixelSpacing says {_text(in_patient)} mm, but {used}: a pixel in the patient is not larger than on the "
                "detector, and of the same shape"
            )
    aspect = _positive(dataset, "PixelAspectRatio", 2, frame)
    if aspect is not None and not _agree(aspect[0] / aspect[1], spacing[0] / spacing[1]):
        warnings.append(f"PixelAspectRatio says {aspect[0]:g} : {aspect[1]:g}, but {used}: the spacing is used")
    return warnings


def _distance_warnings(dataset: Dataset, frame: int) -> list[str]:
    distance, to_patient, factor = (
        _positive(dataset, keyword, 1, frame)
        for keyword in ("DistanceSourceToDetector", "DistanceSourceToPatient", "EstimatedRadiographicMagnificationFactor")
    )
    if distance is None or to_patient is None:
        return []
    stated = f"DistanceSourceToDetector {distance[0]:g} mm and DistanceSourceToPatient {to_patient[0]:g} mm"
    if to_patient[0] >= distance[0]:
        return [f"{stated}: the patient would be behind the detector; the distance to the detector is used"]
    if factor is not None and not _agree(factor[0], distance[0] / to_patient[0]):
        return [
            f"EstimatedRadiographicMagnificationFactor says {factor[0]:.3g}, but {stated} give "
            f"{distance[0] / to_patient[0]:.3g}: the distance to the detector is used"
        ]
    return []


def _time_warnings(dataset: Dataset) -> list[str]:
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames < 2:
        return []
    value = dataset.get("FrameTimeVector")
    vector = None if value is None else numbers(value, len(value) if isinstance(value, MultiValue) else 1)
    time_ms, rate_hz = (numbers(dataset.get(keyword), 1) for keyword in ("FrameTime", "CineRate"))
    warnings = []
    if vector is not None and len(vector) != frames:
        warnings.append(f"FrameTimeVector has {len(vector)} times for {frames} frames: it is not used")
    periods = {
        "FrameTimeVector": float(np.mean(vector[1:])) if vector is not None and len(vector) == frames else 0.0,
        "FrameTime": time_ms[0] if time_ms else 0.0,
        "CineRate": 1000 / rate_hz[0] if rate_hz and rate_hz[0] > 0 else 0.0,
    }
    stated = {name: period for name, period in periods.items() if period > 0}
    first = next(iter(stated), "")
    return warnings + [
        f"{name} says {period:.1f} ms between frames, but {first} {stated[first]:.1f} ms: {first} is used"
        for name, period in stated.items()
        if not _agree(period, stated[first], _FIELD_TOLERANCE)
    ]


def _grouped_warnings(dataset: Dataset, frame: int) -> list[str]:
    """Compare what an enhanced object states at its top level and in the functional groups of the frame."""
    without = Dataset()
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        if keyword in dataset:
            without[keyword] = dataset[keyword]
    warnings = []
    for keyword, count in _GROUPED:
        top, group = (numbers(value, count) for value in (dataset.get(keyword), lookup(without, keyword, frame)))
        if top and group and not np.allclose(top, group, rtol=1e-3):
            warnings.append(
                f"{keyword} is {_text(top)} at the top level and {_text(group)} in the functional groups: the first is used"
            )
    return warnings


def _text(values: list[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
