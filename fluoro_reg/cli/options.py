"""The options that subcommands share, each declared once, and the order in which settings win.

Options that travel together are a dataclass; `grouped` spreads its fields into options of their own, so that a subcommand
takes a handful of arguments and `--help` still shows everything. Settings are layered: the defaults of the configuration
class, then `--config FILE.yaml`, then `--set key=value`, then options typed by name.
"""

import dataclasses
import enum
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape

from fluoro_reg.config import from_mapping, load_yaml, merged, parse_overrides

C = TypeVar("C")

COMMON = "Common to all subcommands that compute"


class Device(str, enum.Enum):
    """Where to compute."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


class IntensityChoice(str, enum.Enum):
    """The values of `fluoro_reg.xray.image.Intensity`, here without torch so that `--help` is quick; a test compares them."""

    AUTO = "auto"
    TRANSMITTED = "transmitted"
    ATTENUATION = "attenuation"


@dataclass(frozen=True, slots=True)
class Common:
    """How to compute and how to answer."""

    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object on standard output, nothing else there.", rich_help_panel=COMMON),
    ] = False
    device: Annotated[
        Device | None,
        typer.Option(help="Where to compute; auto takes the fastest that is present. Default: auto.", rich_help_panel=COMMON),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of everything random; the same seed gives the same answer.", rich_help_panel=COMMON),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Settings from a file; an unknown key is refused.", rich_help_panel=COMMON),
    ] = None
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting, such as gate.minimum_similarity=0.6; repeatable, wins over --config.",
            rich_help_panel=COMMON,
        ),
    ] = None

    def settings(self, cls: type[C], explicit: Mapping[str, Any]) -> C:
        """The configuration `cls` with all layers applied; `explicit` are options typed by name, None where not typed.

        Raises:
            InputError: the layer at fault is named.
        """
        named = {"--config": load_yaml(self.config) if self.config else {}, "--set": parse_overrides(self.assignments or [])}
        for where, layer in named.items():
            from_mapping(cls, layer, where)
        typed = {key: plain(value) for key, value in explicit.items() if value is not None}
        return from_mapping(cls, merged(*named.values(), typed), "command line")


def plain(value: Any) -> Any:
    """An enumeration's value; anything else as it is."""
    return value.value if isinstance(value, enum.Enum) else value


def grouped(function: Callable[..., int]) -> Callable[..., int]:
    """Spreads each argument that is a dataclass into one option a field, as typer reads them from a signature."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            parameters += _fields_as_parameters(groups[parameter.name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))

    def command(**values: Any) -> int:
        for name, cls in groups.items():
            fields = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
            values[name] = cls(**{field: values.pop(field) for field in fields})
        return function(**values)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect.signature reads first
    return command


def paragraphs(function: Callable[..., int]) -> str:
    """The docstring for `--help`: the lines of a paragraph joined, to wrap at the terminal and not as in the source.

    Brackets are brackets, not rich's markup.
    """
    text = escape(inspect.cleandoc(function.__doc__ or ""))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _fields_as_parameters(cls: type) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = []
    for field in dataclasses.fields(typing.cast(Any, cls)):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))
    return parameters
