"""Grouping of slices into series, and the choice of one series.

The slices of a series can be stacked: they share SeriesInstanceUID, frame of reference, matrix size, pixel spacing and
orientation. The list of series in an error message contains numbers of slices, sizes and planes, and nothing that identifies a
patient: no UID, description or date. The order of the list depends on geometry only (then on the UID), so that the numbers stay
the same when files are renamed.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fluoro_reg.ct.dicom.slices import CTSlice, SkippedFile
from fluoro_reg.errors import InputError

MIN_SLICES = 3
_DIRECTION_TOLERANCE = 2e-3  # 0.1 degree: headers round cosines to six digits, and orientations of scans differ by more
_SPACING_TOLERANCE_MM = 1e-3
_MAXIMUM_LISTED = 12


def choose_series(slices: Sequence[CTSlice], skipped: Sequence[SkippedFile], series: str | None) -> list[CTSlice]:
    """Return the slices of the only series, or of the one that `series` selects by its number or UID.

    Raises:
        InputError: There is no usable series, or there are several and `series` selects none. The message lists them.
    """
    groups = sorted(_group_slices(slices), key=_sort_key)
    if not groups:
        raise InputError(_no_series_message(skipped))
    chosen = _select_series(groups, series) if series else _only_series(groups)
    problems = [item.problem for item in skipped if item.problem and item.series in ("", chosen[0].series)]
    if problems:
        others = f" (and {len(problems) - 1} more files have a problem)" if len(problems) > 1 else ""
        raise InputError(problems[0] + others)
    return chosen


def _group_slices(slices: Sequence[CTSlice]) -> list[list[CTSlice]]:
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
    directions = (a.column_direction - b.column_direction, a.row_direction - b.row_direction)
    return bool(np.abs(spacings).max() < _SPACING_TOLERANCE_MM and np.abs(directions).max() < _DIRECTION_TOLERANCE)


def _sort_key(group: list[CTSlice]) -> tuple:
    first = group[0]
    return (-len(group), -first.rows, -first.columns, first.row_spacing, first.kernel, first.series, describe_series(group))


def _only_series(groups: list[list[CTSlice]]) -> list[CTSlice]:
    volumes = [group for group in groups if len(group) >= MIN_SLICES]
    if len(groups) == 1 or len(volumes) == 1:
        return (volumes or groups)[0]
    if not volumes:
        raise InputError(f"no series has {MIN_SLICES} slices or more, so none is a volume: {_list_series(groups)}")
    mixed = len({group[0].series for group in groups}) == 1
    problem = "one series mixes orientations or sizes" if mixed else f"there are {len(groups)} CT series"
    raise InputError(f"{problem}; choose one with --series and its number: {_list_series(groups)}")


def _select_series(groups: list[list[CTSlice]], series: str) -> list[CTSlice]:
    wanted = series.strip()
    if wanted.isdecimal():
        if not 1 <= int(wanted) <= len(groups):
            raise InputError(f"there is no series {int(wanted)}; choose one by its number: {_list_series(groups)}")
        return groups[int(wanted) - 1]
    matching = [group for group in groups if group[0].series == wanted]
    if not matching:
        raise InputError(f"no CT series has the given UID; choose one by its number: {_list_series(groups)}")
    if len(matching) > 1:
        raise InputError(f"that series mixes orientations or sizes; choose one part by its number: {_list_series(groups)}")
    return matching[0]


def _list_series(groups: list[list[CTSlice]]) -> str:
    lines = [f"{number}: {describe_series(group)}" for number, group in enumerate(groups[:_MAXIMUM_LISTED], start=1)]
    return ", ".join(lines) + (f", and {len(groups) - _MAXIMUM_LISTED} more" if len(groups) > _MAXIMUM_LISTED else "")


def describe_series(group: list[CTSlice]) -> str:
    """Return a description without anything that identifies a patient: `75 slices 512x512 of 0.70 mm, axial, kernel B30f`."""
    first = group[0]
    count = _format_count(len(group), "slice")
    kernel = f", kernel {first.kernel}" if first.kernel else ""
    return f"{count} {first.columns}x{first.rows} of {first.column_spacing:.2f} mm, {_plane_name(first)}{kernel}"


def _format_count(count: int, noun: str) -> str:
    """Return `1 MR image`, `2 MR images` or `2 objects of another kind`."""
    head, separator, rest = noun.partition(" of ")
    return f"{count} {head}{'s' if count > 1 else ''}{separator}{rest}"


def _plane_name(first: CTSlice) -> str:
    normal = np.abs(first.normal)
    name = ("sagittal", "coronal", "axial")[int(normal.argmax())]
    return name if normal.max() > 0.999 else f"oblique {name}"


def _no_series_message(skipped: Sequence[SkippedFile]) -> str:
    problems = [item.problem for item in skipped if item.problem]
    kinds = Counter(item.other_kind for item in skipped if item.other_kind)
    found = [_format_count(count, kind) for kind, count in kinds.most_common(4)]
    if not problems:
        return f"there are no CT slices among the DICOM files ({', '.join(found)}); give the folder of a CT series"
    if len(problems) == 1 and not found:
        return problems[0]
    found.append(f"{len(problems)} that cannot be used, the first because {problems[0]}")
    return f"there is no usable CT slice among the DICOM files: {', '.join(found)}"
