"""What the items of a C-arm's DICOM file say about its geometry, and which of them this package uses.

Two items give a camera: DistanceSourceToDetector and ImagerPixelSpacing. Everything else is nominal. Angles are rounded to
degrees and refer to the C-arm's isocentre and not to the patient, tables sag, and a distance to the patient is that to the
table or to the isocentre. The angles of a C-arm and its distance are where a search without an initial pose begins
(`positioner`). Other values can help a person to notice a wrong file. None of them is ever the pose.

Only numbers and defined terms are returned, because any other text of a header may identify a person. Source: DICOM PS3.3,
C.8.7.5, C.8.7.6, C.8.7.8, C.8.11.2, C.8.19.3, C.8.19.6.
"""

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from fluoro_reg.xray.dicom.geometry import lookup, numbers

MAXIMUM_VALUES = 4  # of an item with one value for each frame


@dataclass(frozen=True, slots=True)
class CArmItem:
    """One DICOM item: what it gives, and what this package does with it.

    Attributes:
        keyword: The DICOM keyword.
        unit: Unit of its numbers; empty for a term or a number without a unit.
        gives: What the item says.
        use: What this package uses it for, or why it does not.
        used: Whether it uses it.
    """

    keyword: str
    unit: str
    gives: str
    use: str
    used: bool = False


_ANGLE = "nominal, rounded, and relative to the C-arm's isocentre; never the pose"
_START = "without an initial pose, the views around them are searched first; never the pose"
_DISTANCE = "without an initial pose, distances within 20 % of it are searched first; never a depth"
_TABLE = "the position of a table is not that of a patient"
_DISPLAY = "undone in the pixels before anything else"
_PRINCIPAL = "together they place the principal point"

CARM_ITEMS = (
    CArmItem("DistanceSourceToDetector", "mm", "distance from the focal spot to the detector", "the focal lengths", used=True),
    CArmItem("ImagerPixelSpacing", "mm", "size of a pixel on the detector (row, column)", "the focal lengths", used=True),
    CArmItem("PixelSpacing", "mm", "size of a pixel in the patient, or after a calibration", "not on the detector"),
    CArmItem("DetectorElementSpacing", "mm", "size of an element of the detector", _PRINCIPAL, used=True),
    CArmItem("DetectorActiveDimensions", "mm", "size of the detector", _PRINCIPAL, used=True),
    CArmItem("DetectorActiveOrigin", "elements", "where the active area begins", _PRINCIPAL, used=True),
    CArmItem("FieldOfViewOrigin", "elements", "where the image begins on the detector", _PRINCIPAL, used=True),
    CArmItem("FieldOfViewRotation", "deg", "rotation for display, clockwise", _DISPLAY, used=True),
    CArmItem("FieldOfViewHorizontalFlip", "", "whether the image was mirrored for display", _DISPLAY, used=True),
    CArmItem("FieldOfViewShape", "", "round for an image intensifier", "the field is found in the image"),
    CArmItem("FieldOfViewDimensions", "mm", "size of the field on the detector", "a hint to a missing spacing"),
    CArmItem("IntensifierSize", "mm", "diameter of an image intensifier", "a hint to a missing spacing"),
    CArmItem("DistanceSourceToPatient", "mm", "distance to the table, isocentre or skin, by vendor", _DISTANCE, used=True),
    CArmItem("DistanceSourceToIsocenter", "mm", "distance to the C-arm's isocentre", "the patient may be elsewhere"),
    CArmItem(
        "EstimatedRadiographicMagnificationFactor",
        "",
        "distance to the detector over that to the patient",
        "a hint to a missing distance",
    ),
    CArmItem("PositionerPrimaryAngle", "deg", "right (-) to left (+) anterior oblique", _START, used=True),
    CArmItem("PositionerSecondaryAngle", "deg", "caudal (-) to cranial (+)", _START, used=True),
    CArmItem("PositionerPrimaryAngleIncrement", "deg", "primary angle of each frame, relative", _START, used=True),
    CArmItem("PositionerSecondaryAngleIncrement", "deg", "secondary angle of each frame, relative", _START, used=True),
    CArmItem("DetectorPrimaryAngle", "deg", "angle of the detector to the beam", _ANGLE),
    CArmItem("DetectorSecondaryAngle", "deg", "angle of the detector to the beam", _ANGLE),
    CArmItem("PositionerIsocenterPrimaryAngle", "deg", "primary angle about the isocentre", _ANGLE),
    CArmItem("PositionerIsocenterSecondaryAngle", "deg", "secondary angle about the isocentre", _ANGLE),
    CArmItem("PositionerIsocenterDetectorRotationAngle", "deg", "rotation of the detector in its plane", _ANGLE),
    CArmItem("ColumnAngulation", "deg", "angle of the column that carries the tube", _ANGLE),
    CArmItem("PositionerMotion", "", "whether the C-arm moves during the cine", "every frame is registered anew"),
    CArmItem("PositionerType", "", "C-arm or column", "a name, not a geometry"),
    CArmItem("TableHeight", "mm", "distance from the table to the floor or isocentre, by vendor", _TABLE),
    CArmItem("TableMotion", "", "whether the table moves during the cine", "every frame is registered anew"),
    CArmItem("TableAngle", "deg", "tilt of the table", _TABLE),
    CArmItem("TableTopVerticalPosition", "mm", "position of the table, from its zero", _TABLE),
    CArmItem("TableTopLongitudinalPosition", "mm", "position of the table, from its zero", _TABLE),
    CArmItem("TableTopLateralPosition", "mm", "position of the table, from its zero", _TABLE),
    CArmItem("TableXPositionToIsocenter", "mm", "position of the isocentre above the table", _TABLE),
    CArmItem("TableYPositionToIsocenter", "mm", "position of the isocentre above the table", _TABLE),
    CArmItem("TableZPositionToIsocenter", "mm", "position of the isocentre above the table", _TABLE),
    CArmItem("TableHorizontalRotationAngle", "deg", "rotation of the table", _TABLE),
    CArmItem("TableHeadTiltAngle", "deg", "tilt of the table, head down", _TABLE),
    CArmItem("TableCradleTiltAngle", "deg", "tilt of the table to the side", _TABLE),
)

_TERMS = {
    "FieldOfViewHorizontalFlip": ("YES", "NO"),
    "FieldOfViewShape": ("RECTANGLE", "ROUND", "HEXAGONAL"),
    "PositionerMotion": ("STATIC", "DYNAMIC"),
    "PositionerType": ("CARM", "COLUMN"),
    "TableMotion": ("STATIC", "DYNAMIC"),
}


def carm_items(dataset: Dataset, frame: int) -> list[tuple[CArmItem, list[float] | str]]:
    """Return the items that a file states for a frame, in the order of `CARM_ITEMS`, each with its numbers or its term.

    An item without a value, or with one that is neither a number nor a defined term, is left out. Of items with a value for
    each frame, the first `MAXIMUM_VALUES` are returned.
    """
    found: list[tuple[CArmItem, list[float] | str]] = []
    for item in CARM_ITEMS:
        value = lookup(dataset, item.keyword, frame)
        stated = _term(item.keyword, value) if item.keyword in _TERMS else _all_numbers(value)
        if stated:
            found.append((item, stated))
    return found


def _term(keyword: str, value: object) -> str:
    text = str(value or "").strip().upper()
    return text if text in _TERMS[keyword] else ""


def _all_numbers(value: object) -> list[float]:
    if value is None or value == "":
        return []
    count = len(value) if isinstance(value, (MultiValue, list, tuple)) else 1
    return numbers(value, min(count, MAXIMUM_VALUES)) or []
