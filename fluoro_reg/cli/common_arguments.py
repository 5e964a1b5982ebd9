"""The options that all computing subcommands share, and the order in which settings take precedence."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fluoro_reg.config import from_mapping, load_yaml, merged, parse_overrides

C = TypeVar("C")

COMMON_PANEL = "Common options"
JSON_HELP = "Print the result as one JSON object on standard output and nothing else."


class Device(str, enum.Enum):
    """Where to compute."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class CommonArguments:
    """Output format, device, seed and settings."""

    json: Annotated[bool, typer.Option("--json", help=JSON_HELP, rich_help_panel=COMMON_PANEL)] = False
    device: Annotated[
        Device | None,
        typer.Option(
            help="Device to compute on; auto: cuda if CUDA and Triton are present, else cpu. Default: auto.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Random seed; equal seeds give equal results.", rich_help_panel=COMMON_PANEL),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Read settings from a YAML file.", rich_help_panel=COMMON_PANEL),
    ] = None
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting, for example gate.minimum_similarity=0.6; repeatable, overrides --config.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None

    def settings(self, cls: type[C], explicit: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> C:
        """Return the configuration `cls` with all layers of settings applied.

        Later layers override earlier ones: defaults of `cls`, `defaults`, `--config`, `--set`, `explicit`.

        Args:
            cls: A configuration dataclass.
            explicit: Values of options that the user named, by setting; None where an option was not given.
            defaults: Values that replace defaults of `cls`, such as those for a device.

        Raises:
            InputError: A key is unknown or a value is not allowed; the message names the layer.
        """
        layers = {"--config": load_yaml(self.config) if self.config else {}, "--set": parse_overrides(self.assignments or [])}
        below = defaults or {}
        for name, layer in layers.items():
            below = merged(below, layer)
            from_mapping(cls, below, name)
        given = {key: plain_value(value) for key, value in explicit.items() if value is not None}
        return from_mapping(cls, merged(below, given), "command line")


def plain_value(value: Any) -> Any:
    """Return the value of an enumeration member, and anything else unchanged."""
    return value.value if isinstance(value, enum.Enum) else value
