"""How a function with grouped arguments becomes a subcommand of typer, with its help text.

Arguments that belong together are a dataclass with one field for each option. `add_command` expands every such dataclass into
separate options, so that a subcommand's function takes a handful of arguments while `--help` lists every option.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import typer
from rich.markup import escape


def add_command(app: typer.Typer, name: str, function: Callable[..., int], epilog: str) -> None:
    """Add `function` to `app` as the subcommand `name`.

    Args:
        app: The program or command group.
        name: What the user types.
        function: Returns the exit status. Its docstring is the help text, without sections such as `Args:`.
        epilog: Examples and exit statuses, shown below the options (see `epilog_text`).
    """
    app.command(name, help=help_text(function), epilog=epilog)(expand_argument_groups(function))


def help_text(function: Callable[..., int]) -> str:
    """Return the docstring of `function` as help text.

    The lines of a paragraph are joined, so that they wrap at the width of the terminal. Brackets are not markup.
    """
    text = escape(inspect.cleandoc(function.__doc__ or ""))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def epilog_text(examples: Sequence[tuple[str, str]], exit_status: str = "") -> str:
    """Return examples and the meaning of the exit status as the end of a help text.

    Args:
        examples: Pairs of what a command does and the command; a long command continues after a backslash.
        exit_status: One sentence.
    """
    lines = [f"{purpose}:\n{_indented(command)}" for purpose, command in examples]
    return escape("\n\n".join(["Examples:", *lines, *([f"Exit status: {exit_status}"] if exit_status else [])]))


def expand_argument_groups(function: Callable[..., int]) -> Callable[..., int]:
    """Return `function` with every argument that is a dataclass replaced by one keyword argument for each of its fields."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            parameters += _parameters_of_fields(groups[parameter.name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))

    def command(**values: Any) -> int:
        for name, cls in groups.items():
            fields = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
            values[name] = cls(**{field: values.pop(field) for field in fields})
        return function(**values)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect.signature reads it first
    return command


def _indented(command: str) -> str:
    first, *rest = command.splitlines()
    return "\n".join([f"    $ {first}", *(f"        {line.strip()}" for line in rest)])


def _parameters_of_fields(cls: type) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = []
    for field in dataclasses.fields(typing.cast(Any, cls)):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))
    return parameters
