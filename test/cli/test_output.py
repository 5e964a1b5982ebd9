"""What goes to standard output and to standard error, and strict JSON."""

import json
import math

import pytest

from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.formats.json_file import json_line


def test_nan_and_infinity_become_null():
    line = json_line({"a": math.nan, "b": [math.inf, 1.5, (2, -math.inf)], "c": {"d": math.nan, "e": None, "f": True}})
    assert json.loads(line, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 1.5, [2, None]],
        "c": {"d": None, "e": None, "f": True},
    }
    assert line.count("\n") == 1


def test_standard_output_holds_only_json(capsys):
    output = Output(as_json=True)
    with output.status("reading"), output.progress("frames") as progress:
        progress.update(1, 2)
        output.warn("[not markup] is odd")
        output.show({"x": 1}, key_value_table({"x": 1}))
    captured = capsys.readouterr()
    assert captured.out == '{"x": 1}\n'
    assert captured.err == "warning: [not markup] is odd\n"


def test_a_progress_bar_on_standard_error_does_not_redirect_standard_output(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    output = Output(as_json=True)
    assert output.stderr.is_terminal
    with output.progress("frames") as progress:
        progress.update(1, 2)
        output.show({"x": 1})
    assert capsys.readouterr().out == '{"x": 1}\n'


def test_the_table_is_readable_and_shows_whole_fingerprints(capsys):
    content = {
        "centre_mm": [1.0, 2.25],
        "sound": True,
        "unknown": None,
        "warnings": ["one", "two"],
        "none": [],
        "hash": "f" * 64,
    }
    Output(as_json=False).show(content, key_value_table(content))
    printed = capsys.readouterr().out
    assert "centre mm  1, 2.25" in printed
    assert "f" * 64 in printed
    assert {line.split(None, 1)[1].strip() for line in printed.splitlines() if " " in line.strip()} >= {"yes", "one", "none"}
