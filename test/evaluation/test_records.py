"""Records: what is written is read back, a torn line is cut off, anything else that is no record is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.evaluation_cases import record

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.records import EvaluationRecord, appending, read_records


def test_a_record_comes_back_as_it_was() -> None:
    one = record("a", errors={"mtre_mm": 0.1, "mpd_mm": math.inf}, scores={"patch": 0.5}, stage_seconds={"refine": 0.2})
    assert EvaluationRecord.from_line(one.to_line()) == one
    line = json.loads(one.to_line(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert line["errors"] == {"mtre_mm": 0.1, "mpd_mm": None} and line["start_band_mm"] == [5, 10]


def test_similarities_that_are_no_numbers_are_null() -> None:
    line = json.loads(record("a", similarity=math.nan, scores={"patch": math.nan}).to_line())
    assert line["similarity"] is None and line["scores"] == {"patch": None}


def test_figures_without_a_pose_are_infinite_and_unknown_ones_are_not() -> None:
    assert record("a", mtre_mm=None).figure("mpd_mm") == record("a", mtre_mm=None).trial.mtre_mm == math.inf
    assert math.isnan(record("a").figure("mrpd_mm")) and record("a").figure("mpd_mm") == 0.2
    assert math.isnan(record("a", start_mtre_mm=None).trial.start_mtre_mm)


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path: Path, cut: int) -> None:
    path, records = tmp_path / "records.jsonl", [record("a"), record("b"), record("c")]
    lines = [one.to_line() for one in records]
    path.write_bytes(lines[0] + lines[1] + lines[2][:cut])
    assert read_records(path) == records[:2]
    with appending(path) as append:
        append(records[2])
    assert path.read_bytes() == b"".join(lines)


def test_a_file_that_is_one_torn_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"case": "a", "me')
    assert read_records(path) == [] == read_records(tmp_path / "absent.jsonl")
    with appending(path) as append:
        append(record("a"))
    assert read_records(path) == [record("a")]


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"not JSON", b'{"errors": {}}', record("x").to_line()[:-9]])
def test_a_line_within_that_is_no_record_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(record("a").to_line() + line + b"\n" + record("b").to_line())
    with pytest.raises(InputError, match=r"line 2 of records\.jsonl"):
        read_records(path)


def test_of_two_records_of_one_case_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(record("a").to_line() + replace(record("a"), seconds=9.0).to_line())
    assert [one.seconds for one in read_records(path)] == [0.5]


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"), appending(tmp_path / "absent" / "records.jsonl"):
        pass
