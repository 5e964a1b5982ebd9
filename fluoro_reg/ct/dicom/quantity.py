"""What the rescaled values of a CT are, by the words of its header.

RescaleType has defined terms (DICOM PS3.3, C.11.1.1.2), but is filled with free text. A text that names Hounsfield units in any
spelling is accepted, one that names another quantity is rejected, and any other is accepted with a warning: the values
themselves then have to show air and tissue. The text is never repeated, because it could contain anything.
"""

import re

_HOUNSFIELD = re.compile(r"hounsf|hunsf|\b(hu|h\.\s?u\.?|hus|he|uh|hu_mod|ct[\s_-]?(number|value|unit)s?)\b", re.IGNORECASE)
_UNSPECIFIED = ("", "us", "unspecified", "none", "unknown", "n/a")  # US is what many exporters write for HU
_OTHER_QUANTITY = re.compile(
    r"\b(od|mgml|pct|z_?eff|edw?|iodine|calcium|water|fat|percent|fraction|suv|bqml|gray|gy|dose|counts?|kev|mev)\b"
    r"|optical|density|mg\s?/\s?m|g\s?/\s?cm|/\s?cm|cm\s?[\^-]|/\s?mm|effective|atomic|concentration|%",
    re.IGNORECASE,
)

UNKNOWN_QUANTITY = "RescaleType neither names Hounsfield units nor another quantity: the values are taken as HU"


def is_other_quantity(rescale_type: str) -> bool:
    """Whether the text names a quantity other than Hounsfield units."""
    return not _HOUNSFIELD.search(rescale_type) and bool(_OTHER_QUANTITY.search(rescale_type))


def is_unknown_quantity(rescale_type: str) -> bool:
    """Whether the text says neither that the values are Hounsfield units nor that they are not."""
    text = rescale_type.strip().lower()
    return not (text in _UNSPECIFIED or _HOUNSFIELD.search(text) or is_other_quantity(text))
