"""Configuration as strict frozen dataclasses, which define every default value.

A field made with `option` has a description, a unit and bounds. YAML files, `--set key=value`, the ROS parameters and the
tables in the documentation are derived from it. An unknown key, a wrong type or a value out of bounds raises an `InputError`
that names the key and the allowed values, because a misspelt safety threshold must never silently be the default.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fluoro_reg.errors import InputError

C = TypeVar("C")
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)  # ValueError: bytes, dates and whole numbers that Python refuses


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """The description of one option; `name` is dotted, as in `gate.minimum_similarity`."""

    name: str
    type: Any
    default: Any
    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None


def option(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Make a dataclass field with a description, a unit and inclusive bounds."""
    metadata = {"doc": doc, "unit": unit, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def section(cls: type) -> Any:
    """Make a field for a nested configuration, whose default is the configuration of all defaults."""
    return dataclasses.field(default_factory=cls)


def walk_options(cls: type, prefix: str = "") -> Iterator[OptionInfo]:
    """Iterate over all options of a configuration class, depth first, with dotted names."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, name = hints[field.name], f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hint):
            yield from walk_options(typing.cast(type, hint), f"{name}.")
        else:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            yield OptionInfo(name=name, type=hint, default=default, **{"doc": "", **field.metadata})


def from_mapping(cls: type[C], mapping: Mapping[str, Any], where: str = "configuration") -> C:
    """Build a configuration from nested mappings.

    Args:
        cls: The configuration class.
        mapping: Values; keys may be nested or dotted (`gate.minimum_similarity`).
        where: Name of the source in error messages.

    Raises:
        InputError: A key is unknown or missing, or a value has a wrong type or is out of bounds.
    """
    return _build(cls, _nested(mapping, where), where, "")


def to_mapping(config: Any) -> dict[str, Any]:
    """Convert a configuration to nested mappings, ready for YAML or JSON; the inverse of `from_mapping`."""
    plain = dataclasses.asdict(config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: The file cannot be read, is not YAML, or does not contain a mapping.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    except YAML_ERRORS as error:
        raise InputError(f"{path.name} is not valid YAML; check its indentation and quotes") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must contain 'key: value' pairs at its top level")
    return content


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Parse `["gate.minimum_similarity=0.6", ...]` to a dotted mapping; values are YAML scalars or lists.

    Raises:
        InputError: An assignment has no key or value, or its value is not valid YAML.

    Example:
        >>> parse_overrides(["gate.minimum_similarity=0.6", "roi=full"])
        {'gate.minimum_similarity': 0.6, 'roi': 'full'}
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set needs key=value, got '{assignment}'")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except YAML_ERRORS as error:
            raise InputError(
                f"--set {key.strip()}: the value {value!r} is not valid YAML; check its brackets and quotes"
            ) from error
    return overrides


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key at any depth; later ones take precedence. Dotted and nested keys can be mixed."""
    result: dict[str, Any] = {}
    for layer in layers:
        _merge_into(result, _nested(layer, "configuration"))
    return result


def _merge_into(target: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge_into(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, Mapping) else value


def _nested(mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise InputError(f"{where}: keys must be names, got {key!r}")
        value = _nested(value, where) if isinstance(value, Mapping) else value
        *parents, leaf = key.split(".")
        level = result
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise InputError(f"{where}: '{key}' is below '{parent}', which is a value and not a section")
        if isinstance(value, dict) and isinstance(level.get(leaf), dict):
            _merge_into(level[leaf], value)
        else:
            level[leaf] = value
    return result


def _build(cls: type[C], mapping: Mapping[str, Any], where: str, prefix: str) -> C:
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean '{prefix}{close[0]}'?" if close else f"known keys: {', '.join(fields)}"
            raise InputError(f"{where}: unknown key '{name}'; {hint}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise InputError(f"{where}: '{name}' is a section and must contain 'key: value' pairs, got {value!r}")
            values[key] = _build(typing.cast(type, hints[key]), value, where, f"{name}.")
        else:
            values[key] = _validate(value, hints[key], fields[key].metadata, f"{where}: '{name}'")
    try:
        return cls(**values)
    except TypeError as error:
        missing = [n for n, f in fields.items() if n not in values and _required(f)]
        raise InputError(f"{where}: missing {', '.join(prefix + n for n in missing)}") from error


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _validate(value: Any, hint: Any, metadata: Mapping[str, Any], label: str) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        if value is None and len(inner) < len(typing.get_args(hint)):
            return None
        return _validate(value, inner[0], metadata, label)
    if typing.get_origin(hint) is tuple:
        return _validate_tuple(value, typing.get_args(hint), metadata, label)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value, label)
    if hint is str and isinstance(value, (bool, int, float)):
        # YAML 1.1 reads the words off and on as booleans, and an unquoted number as a number
        value = ("off", "on")[value] if isinstance(value, bool) else str(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InputError(f"{label} must be of type {hint.__name__}, got {value!r}")
    if metadata.get("choices") and value not in metadata["choices"]:
        raise InputError(f"{label} must be one of {', '.join(metadata['choices'])}, got {value!r}")
    _check_bounds(value, metadata, label)
    return value


def _as_float(value: int, label: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(f"{label} is a whole number that is too large; give one below 1e308") from error


def _validate_tuple(value: Any, item_hints: tuple[Any, ...], metadata: Mapping[str, Any], label: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{label} must be a list, got {value!r}")
    if item_hints[-1] is Ellipsis:
        item_hints = item_hints[:1] * len(value)
    if len(value) != len(item_hints):
        raise InputError(f"{label} needs {len(item_hints)} values, got {len(value)}")
    pairs = zip(value, item_hints, strict=True)
    return tuple(_validate(item, hint, metadata, f"{label}[{i}]") for i, (item, hint) in enumerate(pairs))


def _check_bounds(value: Any, metadata: Mapping[str, Any], label: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    low, high, unit = metadata.get("minimum"), metadata.get("maximum"), metadata.get("unit", "")
    if value != value or (low is not None and value < low) or (high is not None and value > high):
        span = f"{'-inf' if low is None else low} to {'inf' if high is None else high}"
        raise InputError(f"{label} must lie in {span}{' ' + unit if unit else ''}, got {value}")
