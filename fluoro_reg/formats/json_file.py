"""JSON as files and as lines: strict (no NaN, no infinity), read with one sentence for each thing that can be wrong."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: no such file, not JSON, or not an object.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text; a JSON file is expected here") from error
    except (json.JSONDecodeError, RecursionError) as error:
        place = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path.name} is not valid JSON{place}; check its brackets, commas and quotes") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold a JSON object in braces, got {kind_of(content)}")
    return content


def write_json(path: Path | str, content: dict[str, Any]) -> None:
    """Writes a JSON object; NaN and infinity, which JSON does not have, raise ValueError."""
    Path(path).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def json_line(content: Mapping[str, Any]) -> str:
    """One line of strict JSON."""
    return json.dumps(_finite(content), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
