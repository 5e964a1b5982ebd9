"""Every name that the code uses is defined.

Ruff's rule F821 checks this, but it takes the shape strings of jaxtyping for names and is therefore off. Here it is on, and
names within strings are ignored.
"""

import io
import json
import subprocess
import tokenize
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def in_a_string(file: Path, row: int, column: int) -> bool:
    """Whether a place (from 1) lies in a string literal."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline)
    place = (row, column - 1)
    return any(token.type == tokenize.STRING and token.start <= place < token.end for token in tokens)


def test_no_name_is_undefined() -> None:
    options = ["--isolated", "--select", "F821", "--output-format", "json"]
    command = ["ruff", "check", *options, "fluoro_reg", "benchmarks", "examples"]
    found = json.loads(subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False).stdout)
    assert len(found) > 100, "the shape strings are no longer reported: this test looks in the wrong place"
    places = [(Path(one["filename"]), one["location"]["row"], one["location"]["column"], one["message"]) for one in found]
    assert [f"{file.name}:{row} {message}" for file, row, column, message in places if not in_a_string(file, row, column)] == []
