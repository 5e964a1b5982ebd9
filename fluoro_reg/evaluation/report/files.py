"""An evaluation as tables that any program reads: `summary.csv`, a line a group and method, and `records.csv`, one a record.

What cannot be told is empty; what is infinite (an error without a pose) is `inf`. Lengths are mm, times s, shares 0 to 1.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fluoro_reg.evaluation.comparison import SUCCESS_MM, Group, MethodSummary, band_of, compare, groups
from fluoro_reg.evaluation.records import EvaluationRecord


def write_summary(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """All cases first, then each group; the groups' own columns are empty where they mean all."""
    single, crossed = groups(records)
    rows = [
        {**_group_row(group), **summary_row(line)}
        for group in (Group(), *single, *crossed)
        for line in compare(group.of(records))
    ]
    _write(path, rows)


def write_table(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """Every record but its matrix and scores, which `records.jsonl` has."""
    _write(path, [record_row(record) for record in records])


def summary_row(line: MethodSummary) -> dict[str, Any]:
    """The figures of a method by name: what summary.csv and `--json` give."""
    v = line.verdicts
    percentiles = {f"p{p.percent:g}_mtre_mm": p for p in line.mtre}
    return {
        "method": line.method,
        "n": line.records,
        "failed": line.failures,
        **{f"within_{within:g}_mm": share for within, share in zip(SUCCESS_MM, line.success, strict=True)},
        **{
            key: value
            for name, p in percentiles.items()
            for key, value in ((name, p.value), (f"{name}_low", p.low), (f"{name}_high", p.high))
        },
        **{f"median_{name}": value for name, value in line.medians.items()},
        "accepted": v.accepted,
        "gross_accepted": v.gross_accepted,
        "gross_rejected": v.gross_rejected,
        "false_rejects": v.false_rejects,
        "capture_range_mm": None if line.capture is None else line.capture.mm,
        "capture_range_ended_by": None if line.capture is None else line.capture.ended_by,
        "median_seconds": line.seconds,
        "median_renders": line.renders,
    }


def record_row(record: EvaluationRecord) -> dict[str, Any]:
    """One line of records.csv."""
    band = band_of(record) or (None, None)
    return {
        "case": record.case,
        "method": record.method,
        "ct": record.ct,
        "start_band_low_mm": band[0],
        "start_band_high_mm": band[1],
        "variant": record.variant,
        "start_mtre_mm": record.start_mtre_mm,
        "accepted": record.accepted,
        "outcome": record.outcome,
        "reason": record.reason,
        **record.errors,
        "similarity": record.similarity,
        "n_renders": record.n_renders,
        "seconds": record.seconds,
        "warm": record.warm,
        "device": record.device,
        "seed": record.seed,
    }


def _group_row(group: Group) -> dict[str, Any]:
    low, high = group.band_mm or (None, None)
    return {"ct": group.ct, "start_band_low_mm": low, "start_band_high_mm": high, "variant": group.variant}


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    rows = [{key: _cell(value) for key, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return int(value) if isinstance(value, bool) else value
