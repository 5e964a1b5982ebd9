"""The CSV files of an evaluation: `summary.csv`, one row per group and method, and `records.csv`, one row per record.

Unknown values are empty, and infinite values (the error without a pose) are `inf`. Lengths are in mm, times in s, fractions
from 0 to 1.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fluoro_reg.evaluation.comparison import (
    SUCCESS_MM,
    Group,
    MethodSummary,
    find_groups,
    initial_error_band,
    summarise_methods,
)
from fluoro_reg.evaluation.records import EvaluationRecord


def write_summary_csv(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """Write the summary of all cases, followed by that of each group; empty columns of a group stand for all cases."""
    single, crossed = find_groups(records)
    rows = [
        {**_group_row(group), **summary_row(summary)}
        for group in (Group(), *single, *crossed)
        for summary in summarise_methods(group.select(records))
    ]
    write_rows(path, rows)


def write_records_csv(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """Write all records without poses and scores, which are in `records.jsonl`."""
    write_rows(path, [record_row(record) for record in records])


def summary_row(summary: MethodSummary) -> dict[str, Any]:
    """Return the figures of a method by name, as in summary.csv and the output of `--json`."""
    verdicts = summary.verdicts
    percentiles = {f"p{p.percent:g}_mtre_mm": p for p in summary.mtre}
    return {
        "method": summary.method,
        "n": summary.records,
        "failed": summary.failures,
        **{f"within_{within:g}_mm": fraction for within, fraction in zip(SUCCESS_MM, summary.success, strict=True)},
        **{
            key: value
            for name, p in percentiles.items()
            for key, value in ((name, p.value), (f"{name}_low", p.low), (f"{name}_high", p.high))
        },
        **{f"median_{name}": value for name, value in summary.medians.items()},
        "accepted": verdicts.accepted,
        "gross_accepted": verdicts.gross_accepted,
        "gross_rejected": verdicts.gross_rejected,
        "false_rejects": verdicts.false_rejects,
        "capture_range_mm": None if summary.capture is None else summary.capture.mm,
        "capture_range_ended_by": None if summary.capture is None else summary.capture.ended_by,
        "median_seconds": summary.seconds,
        "median_renders": summary.renders,
    }


def record_row(record: EvaluationRecord) -> dict[str, Any]:
    """Return the row of a record in records.csv."""
    band = initial_error_band(record) or (None, None)
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


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table whose columns are the keys of all rows."""
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
