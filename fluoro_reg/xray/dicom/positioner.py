"""The nominal view of a DICOM X-ray: positioner angles, and the distance to the patient.

Angles are those of a C-arm. The angles of a cine with a moving C-arm are increments for each frame on the first ones. A column
or a value that no C-arm can have gives no view. Source: DICOM PS3.3, C.8.7.5.1.2, C.8.7.6, C.8.19.6.10.
"""

from pydicom.dataset import Dataset

from fluoro_reg.xray.dicom.geometry import lookup, numbers
from fluoro_reg.xray.nominal_view import NominalView

_LARGEST_DEG = (180.0, 90.0)
_PLAUSIBLE_MM = (200.0, 2500.0)


def nominal_view(dataset: Dataset, frame: int) -> NominalView | None:
    """Return the stated view of a frame; None if the file does not state both angles of a C-arm."""
    if str(lookup(dataset, "PositionerType", frame) or "").strip().upper() == "COLUMN":
        return None
    angles = []
    for axis, largest in zip(("Primary", "Secondary"), _LARGEST_DEG, strict=True):
        stated = numbers(lookup(dataset, f"Positioner{axis}Angle", frame), 1)
        if stated is None:
            return None
        angle = stated[0] + _increment(lookup(dataset, f"Positioner{axis}AngleIncrement", frame), frame)
        if abs(angle) > largest:
            return None
        angles.append(angle)
    distance = numbers(lookup(dataset, "DistanceSourceToPatient", frame), 1)
    low, high = _PLAUSIBLE_MM
    return NominalView(angles[0], angles[1], distance[0] if distance and low <= distance[0] <= high else None)


def _increment(value: object, frame: int) -> float:
    """The increment of a frame; 0 where the header has none for it."""
    increments = numbers(value, frame + 1)
    return increments[frame] if increments else 0.0
