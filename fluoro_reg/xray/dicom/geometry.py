"""The pinhole camera of a C-arm from DICOM: `f = DistanceSourceToDetector / ImagerPixelSpacing`.

ImagerPixelSpacing is the size of a pixel on the detector. PixelSpacing is a size in the patient and is not used. The principal
point is assumed to be the centre of the detector's active area, whose position in the image follows from FieldOfViewOrigin
(offset of the image in detector elements, before rotation and flip). If the size of the detector is unknown, the centre of the
image is used. Positioner angles do not enter the camera (`positioner` reads them). Enhanced objects have the same attributes in
functional groups.
Source: DICOM PS3.3, C.8.7.5, C.8.11.3.1.2, C.8.19.6.
"""

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fluoro_reg.geometry import CameraIntrinsics


def lookup(dataset: Dataset, keyword: str, frame: int) -> Any:
    """Return the value of an attribute from the top level, the functional groups of the frame, or the shared ones; or None."""
    if keyword in dataset:
        return dataset[keyword].value
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [per_frame[frame]] if frame < len(per_frame) else []
    groups += list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for group in groups:
        for element in group:
            if isinstance(element.value, Sequence) and element.value and keyword in element.value[0]:
                return element.value[0][keyword].value
    return None


def numbers(value: Any, count: int) -> list[float] | None:
    """Return a DICOM value as `count` finite numbers; None if it is absent or something else."""
    items = list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    try:
        floats = [float(item) for item in items[:count]]
    except (TypeError, ValueError):
        return None
    return floats if len(floats) == count and all(map(math.isfinite, floats)) else None


def intrinsics_from_dicom(dataset: Dataset, frame: int) -> tuple[CameraIntrinsics | None, str]:
    """Return the camera of the image without display rotation and flip, or None and what is missing."""
    distance = numbers(lookup(dataset, "DistanceSourceToDetector", frame), 1)
    spacing = numbers(lookup(dataset, "ImagerPixelSpacing", frame), 2)
    missing = [
        name
        for name, value in (("DistanceSourceToDetector", distance), ("ImagerPixelSpacing", spacing))
        if value is None or min(value) <= 0
    ]
    if missing or distance is None or spacing is None:
        return None, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing or zero"
    size = [float(dataset.Rows), float(dataset.Columns)]
    degrees = numbers(lookup(dataset, "FieldOfViewRotation", frame), 1) or [0.0]
    if degrees[0] % 180:
        size.reverse()
        spacing.reverse()
    centre = _detector_centre(dataset, frame, spacing) or [(length - 1) / 2 for length in size]
    focal = [distance[0] / step for step in spacing]
    height, width = int(size[0]), int(size[1])
    return CameraIntrinsics(width, height, focal[1], focal[0], centre[1], centre[0], distance[0]), ""


def _detector_centre(dataset: Dataset, frame: int, spacing: list[float]) -> list[float] | None:
    """Return (row, column) of the centre of the detector's active area in the image; None if the tags do not give it."""
    origin = numbers(lookup(dataset, "FieldOfViewOrigin", frame), 2)
    element = numbers(lookup(dataset, "DetectorElementSpacing", frame), 2)
    active_mm = numbers(lookup(dataset, "DetectorActiveDimensions", frame), 2)
    if origin is None or element is None or active_mm is None or min(element) <= 0 or min(active_mm) <= 0:
        return None
    active_origin = numbers(lookup(dataset, "DetectorActiveOrigin", frame), 2) or [0.0, 0.0]
    centre_mm = [(a - o) * e + mm / 2 for a, o, e, mm in zip(active_origin, origin, element, active_mm, strict=True)]
    return [mm / step - 0.5 for mm, step in zip(centre_mm, spacing, strict=True)]
