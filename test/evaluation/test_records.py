"""Records: they are read back unchanged, an incomplete last line is removed, and other malformed lines are rejected."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.evaluation_cases import record

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.records import EvaluationRecord, read_records, record_appender


def test_a_record_is_read_back_unchanged() -> None:
    one = record("a", errors={"mtre_mm": 0.1, "mpd_mm": math.inf}, scores={"patch": 0.5}, stage_seconds={"refine": 0.2})
    assert EvaluationRecord.from_line(one.to_line()) == one
    line = json.loads(one.to_line(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert line["errors"] == {"mtre_mm": 0.1, "mpd_mm": None} and line["start_band_mm"] == [5, 10]


def test_nan_similarities_are_written_as_null() -> None:
    line = json.loads(record("a", similarity=math.nan, scores={"patch": math.nan}).to_line())
    assert line["similarity"] is None and line["scores"] == {"patch": None}


def test_errors_are_infinite_without_a_pose_and_nan_if_unknown() -> None:
    assert record("a", mtre_mm=None).error("mpd_mm") == record("a", mtre_mm=None).trial.mtre_mm == math.inf
    assert math.isnan(record("a").error("mrpd_mm")) and record("a").error("mpd_mm") == 0.2
    assert math.isnan(record("a", start_mtre_mm=None).trial.start_mtre_mm)


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_an_incomplete_last_line_is_removed_and_replaced(tmp_path: Path, cut: int) -> None:
    path, records = tmp_path / "records.jsonl", [record("a"), record("b"), record("c")]
    lines = [one.to_line() for one in records]
    path.write_bytes(lines[0] + lines[1] + lines[2][:cut])
    assert read_records(path) == records[:2]
    with record_appender(path) as append:
        append(records[2])
    assert path.read_bytes() == b"".join(lines)


def test_a_file_with_only_an_incomplete_line_is_started_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"case": "a", "me')
    assert read_records(path) == [] == read_records(tmp_path / "absent.jsonl")
    with record_appender(path) as append:
        append(record("a"))
    assert read_records(path) == [record("a")]


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"not JSON", b'{"errors": {}}', record("x").to_line()[:-9]])
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(record("a").to_line() + line + b"\n" + record("b").to_line())
    with pytest.raises(InputError, match=r"line 2 of records\.jsonl"):
        read_records(path)


def test_the_first_of_two_records_of_a_case_is_used(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(record("a").to_line() + replace(record("a"), seconds=9.0).to_line())
    assert [one.seconds for one in read_records(path)] == [0.5]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"), record_appender(tmp_path / "absent" / "records.jsonl"):
        pass
