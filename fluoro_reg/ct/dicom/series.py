"""Grouping of slices into series, and the choice of one series.

The slices of a series can be stacked: they share SeriesInstanceUID, matrix size, pixel spacing and orientation. Anonymisers
make UIDs unique. Where only the FrameOfReferenceUIDs differ, the positions decide whether slices are one scan; where the
SeriesInstanceUIDs differ too, the user decides. The list of series in an error message contains numbers of slices, sizes and
planes, and nothing that identifies a patient: no UID, description or date. The order of the list depends on geometry only (then
on the UID), so that the numbers stay the same when files are renamed.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from fluoro_reg.ct.dicom.slices import CTSlice, SkippedFile
from fluoro_reg.errors import InputError

MIN_SLICES = 3
_DIRECTION_TOLERANCE = 2e-3  # 0.1 degree: headers round cosines to six digits, and orientations of scans differ by more
_SPACING_TOLERANCE_MM = 1e-3
_LATERAL_TOLERANCE_MM = 0.1
_STEP_TOLERANCE = 0.01  # of the step
_MAXIMUM_LISTED = 12


def choose_series(
    slices: Sequence[CTSlice], skipped: Sequence[SkippedFile], series: str | None
) -> tuple[list[CTSlice], list[str]]:
    """Return the slices of the only series, or of the one that `series` selects by its number or UID, and warnings.

    Raises:
        InputError: There is no usable series, or there are several and `series` selects none. The message lists them.
    """
    groups = sorted(_join_anonymised(_group_slices(slices)), key=_sort_key)
    if not groups:
        raise InputError(_no_series_message(skipped))
    chosen = _select_series(groups, series) if series else _only_series(groups)
    uids = {"", *(item.series for item in chosen)}
    problems = [item.problem for item in skipped if item.problem and item.series in uids]
    if problems:
        others = f" (and {len(problems) - 1} more files have a problem)" if len(problems) > 1 else ""
        raise InputError(problems[0] + others)
    return chosen, _identity_warnings(chosen)


def _group_slices(slices: Sequence[CTSlice]) -> list[list[CTSlice]]:
    by_identity: dict[tuple[str, int, int], list[list[CTSlice]]] = {}
    for candidate in slices:
        groups = by_identity.setdefault((candidate.series, candidate.rows, candidate.columns), [])
        for group in groups:
            if _aligned(group[0], candidate):
                group.append(candidate)
                break
        else:
            groups.append([candidate])
    return [part for groups in by_identity.values() for group in groups for part in _split_by_frame(group)]


def _split_by_frame(group: list[CTSlice]) -> list[list[CTSlice]]:
    """Split a series by its frames of reference, unless its positions show that it is one scan.

    Anonymisers give each slice a FrameOfReferenceUID of its own. Several scans in one series have enough slices each.
    """
    parts = _parts(group, lambda item: item.frame_of_reference)
    one_scan = all(len(part) < MIN_SLICES for part in parts) or is_regular(group)
    return [group] if one_scan else parts


def _join_anonymised(groups: list[list[CTSlice]]) -> list[list[CTSlice]]:
    """Join fragments of series whose UIDs an anonymiser made unique: what they state and where they lie agree.

    The joined series is offered in the list of series, and read only when it is chosen.
    """
    fragments = [item for group in groups if len(group) < MIN_SLICES for item in group]
    joined = []
    for part in _parts(fragments, lambda item: (item.acquisition, item.rows, item.columns)):
        aligned = [item for item in part if _aligned(part[0], item)]
        if len(aligned) >= MIN_SLICES and is_regular(aligned):
            joined.append(aligned)
    taken = {id(item) for part in joined for item in part}
    return [group for group in groups if id(group[0]) not in taken] + joined


def _parts(slices: Sequence[CTSlice], key: Callable[[CTSlice], Hashable]) -> list[list[CTSlice]]:
    parts: dict[Hashable, list[CTSlice]] = {}
    for item in slices:
        parts.setdefault(key(item), []).append(item)
    return list(parts.values())


def is_regular(slices: Sequence[CTSlice]) -> bool:
    """Whether slices lie on one straight line with equal steps, one at each position, as those of one scan do."""
    heights = np.array([item.position @ slices[0].normal for item in slices])
    positions = np.array([item.position for item in slices])[np.argsort(heights)]
    uniform = np.linspace(positions[0], positions[-1], len(positions))
    step = float(np.linalg.norm(uniform[-1] - uniform[0])) / max(len(positions) - 1, 1)
    deviation = float(np.linalg.norm(positions - uniform, axis=1).max())
    return deviation <= max(_LATERAL_TOLERANCE_MM, _STEP_TOLERANCE * step) and deviation < step / 4


def _is_joined(group: list[CTSlice]) -> bool:
    return len({item.series for item in group}) > 1


def _identity_warnings(chosen: list[CTSlice]) -> list[str]:
    frames, uids = len({item.frame_of_reference for item in chosen}), len({item.series for item in chosen})
    warnings = []
    if uids > 1:
        warnings.append(f"the {len(chosen)} slices have {uids} SeriesInstanceUIDs: they are read as one series, as chosen")
    if frames > 1:
        warnings.append(
            f"the {len(chosen)} slices have {frames} FrameOfReferenceUIDs: they are read as one scan, because the rest agrees"
        )
    return warnings


def _aligned(a: CTSlice, b: CTSlice) -> bool:
    spacings = (a.row_spacing - b.row_spacing, a.column_spacing - b.column_spacing)
    directions = (a.column_direction - b.column_direction, a.row_direction - b.row_direction)
    return bool(np.abs(spacings).max() < _SPACING_TOLERANCE_MM and np.abs(directions).max() < _DIRECTION_TOLERANCE)


def _sort_key(group: list[CTSlice]) -> tuple:
    first = group[0]
    return (-len(group), -first.rows, -first.columns, first.row_spacing, first.kernel, first.series, describe_series(group))


def _only_series(groups: list[list[CTSlice]]) -> list[CTSlice]:
    volumes = [group for group in groups if len(group) >= MIN_SLICES]
    candidates = volumes or groups
    if (len(groups) == 1 or len(volumes) == 1) and not _is_joined(candidates[0]):
        return candidates[0]
    if not volumes:
        raise InputError(f"no series has {MIN_SLICES} slices or more, so none is a volume: {_list_series(groups)}")
    if len(volumes) == 1:
        raise InputError(
            f"the slices have different SeriesInstanceUIDs, but {len(volumes[0])} of them agree in acquisition, size, spacing "
            f"and positions; if they are one CT, choose it with --series 1: {_list_series(groups)}"
        )
    mixed = len({item.series for group in groups for item in group}) == 1
    problem = "one series mixes orientations or sizes" if mixed else f"there are {len(groups)} CT series"
    raise InputError(f"{problem}; choose one with --series and its number: {_list_series(groups)}")


def _select_series(groups: list[list[CTSlice]], series: str) -> list[CTSlice]:
    wanted = series.strip()
    if wanted.isdecimal():
        if not 1 <= int(wanted) <= len(groups):
            raise InputError(f"there is no series {int(wanted)}; choose one by its number: {_list_series(groups)}")
        return groups[int(wanted) - 1]
    matching = [group for group in groups if any(item.series == wanted for item in group)]
    if not matching:
        raise InputError(f"no CT series has the given UID; choose one by its number: {_list_series(groups)}")
    if _is_joined(matching[0]):
        raise InputError(f"the given UID is that of a few slices only; choose one by its number: {_list_series(groups)}")
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
    joined = f", from {len({item.series for item in group})} SeriesInstanceUIDs" if _is_joined(group) else ""
    return f"{count} {first.columns}x{first.rows} of {first.column_spacing:.2f} mm, {_plane_name(first)}{kernel}{joined}"


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
