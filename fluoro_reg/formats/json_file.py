"""Reading and writing of strict JSON (without NaN and infinity), with a clear error message for each kind of problem."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError

_LONGEST_INT = 300  # digits


def read_json(path: Path | str) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        InputError: The file does not exist, is not JSON, or is not an object.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_int=_parse_int)
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text; give a JSON file") from error
    except (json.JSONDecodeError, RecursionError) as error:
        position = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path.name} is not valid JSON{position}; check its brackets, commas and quotes") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must contain a JSON object in braces, got {json_type_name(content)}")
    return content


def _parse_int(digits: str) -> int | float:
    """A whole number; infinity where it is too large for a float, as for numbers with a point."""
    return int(digits) if len(digits) < _LONGEST_INT else float(digits)


def write_json(path: Path | str, content: dict[str, Any]) -> None:
    """Write a JSON object.

    Raises:
        ValueError: It contains NaN or infinity.
    """
    Path(path).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def json_type_name(value: Any) -> str:
    """Return the type of a JSON value, for error messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def json_line(content: Mapping[str, Any]) -> str:
    """Format a mapping as one line of strict JSON; NaN and infinity become null."""
    return json.dumps(_finite(content), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
