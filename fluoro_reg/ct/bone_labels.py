"""Names of bones and their numbers in TotalSegmentator's segmentations (task `total`, version 2), so that either may be given.

Source: the class map in TotalSegmentator's documentation (github.com/wasserth/TotalSegmentator). Version 1 numbered its classes
in another way; its files need numbers.
"""

from fluoro_reg.errors import InputError

_VERTEBRAE = [
    "S1",
    *(f"L{n}" for n in range(5, 0, -1)),
    *(f"T{n}" for n in range(12, 0, -1)),
    *(f"C{n}" for n in range(7, 0, -1)),
]
_PAIRED = ("humerus", "scapula", "clavicula", "femur", "hip")
_FIRST_VERTEBRA, _FIRST_HUMERUS, _FIRST_RIB_LEFT, _FIRST_RIB_RIGHT = 26, 69, 92, 104

BONE_LABELS: dict[str, int] = {
    "sacrum": 25,
    **{f"vertebrae_{name}": _FIRST_VERTEBRA + n for n, name in enumerate(_VERTEBRAE)},
    **{
        f"{bone}_{side}": _FIRST_HUMERUS + 2 * n + m
        for n, bone in enumerate(_PAIRED)
        for m, side in enumerate(("left", "right"))
    },
    "skull": 91,
    **{f"rib_left_{n}": _FIRST_RIB_LEFT + n - 1 for n in range(1, 13)},
    **{f"rib_right_{n}": _FIRST_RIB_RIGHT + n - 1 for n in range(1, 13)},
    "sternum": 116,
    "costal_cartilages": 117,
}


def label_number(label: str) -> int:
    """The number of a label, given as a number or as TotalSegmentator's name of a bone.

    Raises:
        InputError: It is neither a whole number above 0 nor a known name.

    Example:
        >>> label_number("femur_left"), label_number("vertebrae_L5"), label_number("3")
        (75, 27, 3)
    """
    if label in BONE_LABELS:
        return BONE_LABELS[label]
    try:
        number = int(label)
    except ValueError:
        number = 0
    if number <= 0:
        raise InputError(
            f"a label must be a whole number above 0 or TotalSegmentator's name of a bone, such as femur_left, got '{label}'"
        )
    return number
