"""Which slices belong together, and which series is meant when a folder holds several.

A series is what one could stack: one SeriesInstanceUID, one frame of reference, one matrix, one pixel spacing, one orientation.
The list of choices names slices, sizes and planes but nobody: no UID, no description, no date. Its numbers depend on geometry
alone (then on the UID), so that they stay the same when files are renamed.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fluoro_reg.ct.dicom.slices import CTSlice, LeftOut
from fluoro_reg.errors import InputError

MIN_SLICES = 3
_DIRECTION_TOLERANCE = 2e-3  # 0.1 degree: headers round their cosines to six digits, scanners do not move by less
_SPACING_TOLERANCE_MM = 1e-3
_LISTED = 12


def choose_series(slices: Sequence[CTSlice], left_out: Sequence[LeftOut], series: str | None) -> list[CTSlice]:
    """The slices of the one series that is meant; several and no choice is a refusal that lists them."""
    groups = sorted(_grouped(slices), key=_order)
    if not groups:
        raise InputError(_nothing_usable(left_out))
    chosen = _named(groups, series) if series else _only(groups)
    problems = [item.problem for item in left_out if item.problem and item.series in ("", chosen[0].series)]
    if problems:
        others = f" (and {len(problems) - 1} more files have a problem)" if len(problems) > 1 else ""
        raise InputError(problems[0] + others)
    return chosen


def _grouped(slices: Sequence[CTSlice]) -> list[list[CTSlice]]:
    by_identity: dict[tuple[str, str, int, int], list[list[CTSlice]]] = {}
    for candidate in slices:
        key = (candidate.series, candidate.frame_of_reference, candidate.rows, candidate.columns)
        groups = by_identity.setdefault(key, [])
        for group in groups:
            if _aligned(group[0], candidate):
                group.append(candidate)
                break
        else:
            groups.append([candidate])
    return [group for groups in by_identity.values() for group in groups]


def _aligned(a: CTSlice, b: CTSlice) -> bool:
    spacings = (a.row_spacing - b.row_spacing, a.column_spacing - b.column_spacing)
    turns = (a.column_direction - b.column_direction, a.row_direction - b.row_direction)
    return bool(np.abs(spacings).max() < _SPACING_TOLERANCE_MM and np.abs(turns).max() < _DIRECTION_TOLERANCE)


def _order(group: list[CTSlice]) -> tuple:
    first = group[0]
    return (-len(group), -first.rows, -first.columns, first.row_spacing, first.kernel, first.series, describe(group))


def _only(groups: list[list[CTSlice]]) -> list[CTSlice]:
    volumes = [group for group in groups if len(group) >= MIN_SLICES]
    if len(groups) == 1 or len(volumes) == 1:
        return (volumes or groups)[0]
    if not volumes:
        raise InputError(f"no series has {MIN_SLICES} slices or more, so none is a volume: {_listed(groups)}")
    mixed = len({group[0].series for group in groups}) == 1
    what = "one series mixes orientations or sizes" if mixed else f"there are {len(groups)} CT series"
    raise InputError(f"{what}; choose one by --series and its number: {_listed(groups)}")


def _named(groups: list[list[CTSlice]], series: str) -> list[CTSlice]:
    wanted = series.strip()
    if wanted.isdecimal():
        if not 1 <= int(wanted) <= len(groups):
            raise InputError(f"there is no series {int(wanted)}; choose one by its number: {_listed(groups)}")
        return groups[int(wanted) - 1]
    matching = [group for group in groups if group[0].series == wanted]
    if not matching:
        raise InputError(f"no CT series has the UID that was given; choose one by its number: {_listed(groups)}")
    if len(matching) > 1:
        raise InputError(f"that series mixes orientations or sizes; choose one part by its number: {_listed(groups)}")
    return matching[0]


def _listed(groups: list[list[CTSlice]]) -> str:
    lines = [f"{number}: {describe(group)}" for number, group in enumerate(groups[:_LISTED], start=1)]
    return ", ".join(lines) + (f", and {len(groups) - _LISTED} more" if len(groups) > _LISTED else "")


def describe(group: list[CTSlice]) -> str:
    """A series in a few words that identify nobody: `75 slices 512x512 of 0.70 mm, axial, kernel B30f`."""
    first = group[0]
    count = _counted(len(group), "slice")
    kernel = f", kernel {first.kernel}" if first.kernel else ""
    return f"{count} {first.columns}x{first.rows} of {first.column_spacing:.2f} mm, {_plane(first)}{kernel}"


def _counted(count: int, noun: str) -> str:
    """`1 MR image`, `2 MR images`, `2 objects of another kind`."""
    head, separator, rest = noun.partition(" of ")
    return f"{count} {head}{'s' if count > 1 else ''}{separator}{rest}"


def _plane(first: CTSlice) -> str:
    normal = np.abs(first.normal)
    name = ("sagittal", "coronal", "axial")[int(normal.argmax())]
    return name if normal.max() > 0.999 else f"oblique {name}"


def _nothing_usable(left_out: Sequence[LeftOut]) -> str:
    problems = [item.problem for item in left_out if item.problem]
    kinds = Counter(item.other_kind for item in left_out if item.other_kind)
    found = [_counted(count, kind) for kind, count in kinds.most_common(4)]
    if not problems:
        return f"there are no CT slices among the DICOM files ({', '.join(found)}); give the folder of a CT series"
    if len(problems) == 1 and not found:
        return problems[0]
    found.append(f"{len(problems)} that cannot be used, the first because {problems[0]}")
    return f"there is no usable CT slice among the DICOM files: {', '.join(found)}"
