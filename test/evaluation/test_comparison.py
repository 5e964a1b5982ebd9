"""Tables of an evaluation: figures worked out by hand from a few records, and the groups that cases fall into."""

import csv
import math
from pathlib import Path

import pytest
from helpers.evaluation_cases import record

from fluoro_reg.evaluation.comparison import Group, band_of, compare, groups
from fluoro_reg.evaluation.report.files import write_summary, write_table

NO_POSE = {"mtre_mm": None, "accepted": False, "outcome": "rejected_image"}
RECORDS = [
    record("a", mtre_mm=0.5, seconds=9.0, warm=False),  # compiles
    record("b", mtre_mm=1.5, accepted=False, n_renders=30),  # right, thrown away
    record("c", mtre_mm=5.0, seconds=0.7),  # neither right nor gross
    record("d", mtre_mm=12.0, n_renders=50, start_mtre_mm=9.0),  # dangerous
    record("e", **NO_POSE, seconds=0.1),
    record("a", "lm-patch-ncc", mtre_mm=1.0),
    record("b", "lm-patch-ncc", outcome="failed", accepted=False, mtre_mm=None, seconds=None, n_renders=0, start_mtre_mm=None),
]


def test_figures_of_a_method_are_those_worked_out_by_hand() -> None:
    line, other = compare(RECORDS)
    assert (line.method, line.records, line.failures) == ("lm-local", 5, 0)
    assert line.success == (0.2, 0.4, 0.6)
    assert [p.value for p in line.mtre] == [5.0, 12.0, math.inf], "the 75th of five is the fourth"
    assert line.medians["in_plane_mm"] == 0.1 and math.isnan(line.medians["mrpd_mm"]), "the cases do not tell it"
    v = line.verdicts
    assert (v.accepted, v.gross_accepted, v.gross_rejected, v.false_rejects) == (3, 1, 1, 1)
    assert line.seconds == 0.5, "of 0.5, 0.7, 0.5, 0.1: the first, which compiles, is left out"
    assert line.renders == 20
    assert (other.records, other.failures, other.seconds, other.renders) == (2, 1, 0.5, 20)
    assert other.success == (0.5, 0.5, 0.5), "a failure counts as a case"


def test_a_first_registration_is_all_there_is() -> None:
    (line,) = compare([record("a", seconds=3.0, warm=False)])
    assert line.seconds == 3.0


def test_capture_range_is_told_in_bins_of_five_mm() -> None:
    near = [record(f"n{n}", start_mtre_mm=6.0, mtre_mm=1.0) for n in range(10)]
    far = [record(f"f{n}", start_mtre_mm=12.0, mtre_mm=1.0 if n < 9 else 8.0) for n in range(10)]
    (line,) = compare(near + far)
    assert line.capture is not None and (line.capture.mm, line.capture.ended_by) == (10.0, "failures")
    (unknown,) = compare([record("a", start_mtre_mm=None)])
    assert unknown.capture is None


def test_groups_divide_the_cases_and_none_is_empty() -> None:
    records = [
        record("a", ct="hip", variant="noisy", start_band_mm=(5.0, 10.0)),
        record("b", ct="hip", variant="standard", start_band_mm=(10.0, 25.0)),
        record("c", ct="knee", variant="noisy", start_band_mm=(5.0, 10.0)),
        record("x", ct="", variant="", start_band_mm=None, start_mtre_mm=None),  # a malformed case belongs to all cases alone
    ]
    single, crossed = groups(records)
    assert [group.title for group in single] == ["starts 5 to 10 mm", "starts 10 to 25 mm", "hip", "knee", "noisy", "standard"]
    assert [(group.title, [r.case for r in group.of(records)]) for group in crossed] == [
        ("hip, starts 5 to 10 mm, noisy", ["a"]),
        ("hip, starts 10 to 25 mm, standard", ["b"]),
        ("knee, starts 5 to 10 mm, noisy", ["c"]),
    ]
    assert groups(records[:1]) == ([], []), "one case is no comparison of groups"
    assert Group().of(records) == records


@pytest.mark.parametrize(("start_mm", "band"), [(3.0, (0, 5)), (5.0, (5, 10)), (24.9, (10, 25)), (60.0, (60, math.inf))])
def test_cases_without_a_band_fall_into_the_usual_ones(start_mm: float, band: tuple[float, float]) -> None:
    assert band_of(record("a", start_band_mm=None, start_mtre_mm=start_mm)) == band
    assert band_of(record("a", start_band_mm=(1.0, 90.0), start_mtre_mm=start_mm)) == (1.0, 90.0)


def test_csv_files_hold_every_record_and_every_group(tmp_path: Path) -> None:
    records = [*RECORDS, record("f", variant="noisy", mtre_mm=0.25)]
    write_table(tmp_path / "records.csv", records)
    write_summary(tmp_path / "summary.csv", records)
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
    hand = summary[2]
    assert (hand["within_2_mm"], hand["gross_accepted"], hand["p50_mtre_mm"], hand["p95_mtre_mm"]) == ("0.4", "1", "5.0", "inf")
    assert hand["median_mrpd_mm"] == ""
