"""Access to the attributes of a slice: at the top level of a classic file, or in the functional groups of an enhanced one."""

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset

from fluoro_reg.errors import InputError

_IMPLAUSIBLE = 1e6  # mm or HU; the comparison also rejects NaN


def find(sources: Sequence[Dataset], macro: str, keyword: str) -> Any:
    """Return the value of an attribute from the first source that has it, itself or in its `macro`; None if none has."""
    for source in sources:
        if keyword in source:
            return source[keyword].value
        items = source.get(macro) or []
        if len(items) and keyword in items[0]:
            return items[0][keyword].value
    return None


def required_numbers(sources: Sequence[Dataset], macro: str, keyword: str, count: int, label: str) -> list[float]:
    """Return `count` numbers of an attribute that a CT cannot do without.

    Raises:
        InputError: The attribute is missing or unusable; `label` names the file.
    """
    value = find(sources, macro, keyword)
    if value is None or value == "":
        raise InputError(f"{label} has no {keyword}, without which a CT cannot be used; export the original series")
    numbers = optional_numbers(value, count)
    zero_slope = keyword == "RescaleSlope" and numbers == [0.0]
    if numbers is None or zero_slope or (keyword == "PixelSpacing" and min(numbers) <= 0):
        raise InputError(f"{label} has an unusable {keyword}; export the original series")
    return numbers


def optional_numbers(value: Any, count: int) -> list[float] | None:
    """Return a value of DICOM as `count` plausible numbers; None if it is absent or something else."""
    items = [value] if isinstance(value, (str, int, float)) else list(value or [])
    try:
        numbers = [float(item) for item in items]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(abs(number) < _IMPLAUSIBLE for number in numbers) else None


def optional_number(value: Any) -> float | None:
    """Return a value of DICOM as one plausible number; None if it is absent or something else."""
    numbers = optional_numbers(value, 1)
    return None if numbers is None else numbers[0]


def strings(value: Any) -> list[str]:
    """Return a value of DICOM, which may be single, multiple or absent, as strings."""
    return [] if value is None else [value] if isinstance(value, str) else [str(item) for item in value]
