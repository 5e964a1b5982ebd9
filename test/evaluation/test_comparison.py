"""Summaries of an evaluation: figures calculated by hand from a few records, and the groups of cases."""

import csv
import math
from pathlib import Path

import pytest
from helpers.evaluation_cases import record

from fluoro_reg.evaluation.comparison import Group, find_groups, initial_error_band, summarise_methods
from fluoro_reg.evaluation.report.files import write_records_csv, write_summary_csv

NO_POSE = {"mtre_mm": None, "accepted": False, "outcome": "rejected_image"}
RECORDS = [
    record("a", mtre_mm=0.5, seconds=9.0, warm=False),  # compiles
    record("b", mtre_mm=1.5, accepted=False, n_renders=30),  # correct, but rejected
    record("c", mtre_mm=5.0, seconds=0.7),  # neither correct nor gross
    record("d", mtre_mm=12.0, n_renders=50, start_mtre_mm=9.0),  # dangerous
    record("e", **NO_POSE, seconds=0.1),
    record("a", "lm-patch-ncc", mtre_mm=1.0),
    record("b", "lm-patch-ncc", outcome="failed", accepted=False, mtre_mm=None, seconds=None, n_renders=0, start_mtre_mm=None),
]


def test_figures_of_a_method_are_those_calculated_by_hand() -> None:
    line, other = summarise_methods(RECORDS)
    assert (line.method, line.records, line.failures) == ("lm-local", 5, 0)
    assert line.success == (0.2, 0.4, 0.6)
    assert [p.value for p in line.mtre] == [5.0, 12.0, math.inf], "the 75th percentile of five values is the fourth"
    assert line.medians["in_plane_mm"] == 0.1 and math.isnan(line.medians["mrpd_mm"]), "unknown in these records"
    v = line.verdicts
    assert (v.accepted, v.gross_accepted, v.gross_rejected, v.false_rejects) == (3, 1, 1, 1)
    assert line.seconds == 0.5, "of 0.5, 0.7, 0.5, 0.1: the first registration, which compiles, is excluded"
    assert line.renders == 20
    assert (other.records, other.failures, other.seconds, other.renders) == (2, 1, 0.5, 20)
    assert other.success == (0.5, 0.5, 0.5), "a failure counts as a case"


def test_the_time_of_a_first_registration_counts_if_it_is_the_only_one() -> None:
    (line,) = summarise_methods([record("a", seconds=3.0, warm=False)])
    assert line.seconds == 3.0


def test_the_capture_range_uses_bins_of_five_mm() -> None:
    near = [record(f"n{n}", start_mtre_mm=6.0, mtre_mm=1.0) for n in range(10)]
    far = [record(f"f{n}", start_mtre_mm=12.0, mtre_mm=1.0 if n < 9 else 8.0) for n in range(10)]
    (line,) = summarise_methods(near + far)
    assert line.capture is not None and (line.capture.mm, line.capture.ended_by) == (10.0, "failures")
    (unknown,) = summarise_methods([record("a", start_mtre_mm=None)])
    assert unknown.capture is None


def test_groups_divide_the_cases_and_none_is_empty() -> None:
    records = [
        record("a", ct="hip", variant="noisy", start_band_mm=(5.0, 10.0)),
        record("b", ct="hip", variant="standard", start_band_mm=(10.0, 25.0)),
        record("c", ct="knee", variant="noisy", start_band_mm=(5.0, 10.0)),
        record("x", ct="", variant="", start_band_mm=None, start_mtre_mm=None),  # a malformed case is in no group but all cases
    ]
    single, crossed = find_groups(records)
    bands = ["initial mTRE 5 to 10 mm", "initial mTRE 10 to 25 mm"]
    assert [group.title for group in single] == [*bands, "hip", "knee", "noisy", "standard"]
    assert [(group.title, [r.case for r in group.select(records)]) for group in crossed] == [
        ("hip, initial mTRE 5 to 10 mm, noisy", ["a"]),
        ("hip, initial mTRE 10 to 25 mm, standard", ["b"]),
        ("knee, initial mTRE 5 to 10 mm, noisy", ["c"]),
    ]
    assert find_groups(records[:1]) == ([], []), "one case cannot be divided into groups"
    assert Group().select(records) == records


@pytest.mark.parametrize(("start_mm", "band"), [(3.0, (0, 5)), (5.0, (5, 10)), (24.9, (10, 25)), (60.0, (60, math.inf))])
def test_cases_without_a_band_are_assigned_to_default_bands(start_mm: float, band: tuple[float, float]) -> None:
    assert initial_error_band(record("a", start_band_mm=None, start_mtre_mm=start_mm)) == band
    assert initial_error_band(record("a", start_band_mm=(1.0, 90.0), start_mtre_mm=start_mm)) == (1.0, 90.0)


def test_csv_files_contain_every_record_and_every_group(tmp_path: Path) -> None:
    records = [*RECORDS, record("f", variant="noisy", mtre_mm=0.25)]
    write_records_csv(tmp_path / "records.csv", records)
    write_summary_csv(tmp_path / "summary.csv", records)
    table, summary = (list(csv.DictReader((tmp_path / name).open())) for name in ("records.csv", "summary.csv"))
    assert [(row["case"], row["method"]) for row in table] == [one.key for one in records]
    assert [row["mtre_mm"] for row in table[:5]] == ["0.5", "1.5", "5.0", "12.0", ""]
    assert table[0]["accepted"] == "1" and table[4]["accepted"] == "0" and table[0]["start_band_low_mm"] == "5.0"
    assert [(row["variant"], row["method"], row["n"]) for row in summary] == [
        ("", "lm-local", "6"),
        ("", "lm-patch-ncc", "2"),
        ("standard", "lm-local", "5"),
        ("standard", "lm-patch-ncc", "2"),
        ("noisy", "lm-local", "1"),
    ]
    row = summary[2]
    assert (row["within_2_mm"], row["gross_accepted"], row["p50_mtre_mm"], row["p95_mtre_mm"]) == ("0.4", "1", "5.0", "inf")
    assert row["median_mrpd_mm"] == ""
