"""The page of the command line: every subcommand, as typer registered it."""

import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from fluoro_reg.cli.common_arguments import COMMON_PANEL
from fluoro_reg.cli.main import app
from reference_pages.text import prose, table, unescaped


def commands() -> Iterator[tuple[str, Any]]:
    """Every subcommand with its name, as typer registered it."""
    for command in app.registered_commands:
        yield str(command.name), command
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands:
            yield f"{group.typer_instance.info.name} {command.name}", command


def command_line_page() -> str:
    """Every subcommand: description, usage, options, examples."""
    listed = list(commands())
    common_options = next(options for _, command in listed if (options := [p for p in _parameters(command) if _is_common(p)]))
    parts = [
        "# Command line\n\nOne program, `fluoro-reg`, with one subcommand for each job; `fluoro-reg COMMAND --help` shows the "
        "same. "
        "Lengths are in mm, image positions in px, times in s. Output, exit status and files are described on "
        "[Files and output](files.md), settings for `--set` and `--config` on [Settings](settings.md).\n",
        table(("subcommand", "purpose"), ((f"[`{n}`](#{_anchor(n)})", _summary(c)) for n, c in listed)),
        "The program itself takes `--version`, and `--debug`, which may stand anywhere and shows the traceback of an error.\n",
        "## Common options\n\nEvery subcommand that computes takes these options:\n",
        _options_table(common_options),
    ]
    for name, command in listed:
        own = [parameter for parameter in _parameters(command) if not _is_common(parameter)]
        common = [parameter for parameter in _parameters(command) if _is_common(parameter)]
        parts.append(f"## {name}\n\n{prose(command.help)}\n\n```text\n{_usage(name, own, bool(common))}\n```\n")
        if own:
            parts.append(_options_table(own))
        if common:
            parts.append("It takes the [common options](#common-options).\n")
        if command.epilog:
            parts.append(_epilog(command.epilog))
    return "\n".join(parts)


def _parameters(command: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(command.callback).parameters.values())


def _info(parameter: inspect.Parameter) -> Any:
    """What typer was told about an option or an argument."""
    return parameter.annotation.__metadata__[0]


def _is_common(parameter: inspect.Parameter) -> bool:
    return getattr(_info(parameter), "rich_help_panel", None) == COMMON_PANEL


def _spelling(parameter: inspect.Parameter) -> str:
    """How an option is typed, with the placeholder of its value."""
    info, hint = _info(parameter), typing.get_args(parameter.annotation)[0]
    if type(info).__name__ == "ArgumentInfo":
        return str(info.metavar or parameter.name.upper())
    names = [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str) and name.startswith("--")]
    name = names[0] if names else f"--{parameter.name.replace('_', '-')}"
    if hint is bool:
        return name
    choices = [kind for kind in (hint, *typing.get_args(hint)) if hasattr(kind, "__members__")]
    value = "|".join(member.value for member in choices[0]) if choices else info.metavar or "VALUE"
    return f"{name} {value}"


def _options_table(parameters: Iterable[inspect.Parameter]) -> str:
    rows = []
    for parameter in parameters:
        text = prose(_info(parameter).help or "")
        required = parameter.default is inspect.Parameter.empty
        rows.append((f"`{_spelling(parameter)}`", f"{text} **Required.**" if required else text))
    return table(("option", "meaning"), rows)


def _usage(name: str, own: list[inspect.Parameter], common: bool) -> str:
    needed = [_spelling(p) for p in own if p.default is inspect.Parameter.empty]
    optional = ["[OPTIONS]"] if common or len(needed) < len(own) else []
    return " ".join(["fluoro-reg", name, *needed, *optional])


def _summary(command: Any) -> str:
    return re.split(r"(?<=[.:]) ", unescaped(command.help).split("\n\n")[0])[0].rstrip(":.") + "."


def _epilog(text: str) -> str:
    """Examples as one block of commands, each under its purpose as a comment; other paragraphs stay prose."""
    commands, others = [], []
    for paragraph in unescaped(text).split("\n\n"):
        purpose, *lines = paragraph.splitlines()
        if lines:
            first, *rest = (line.strip().removeprefix("$ ") for line in lines)
            commands.append("\n".join([f"# {purpose.rstrip(':')}", first, *(f"  {line}" for line in rest)]))
        elif purpose != "Examples:":
            others.append(f"{prose(purpose)}\n")
    block = ["```bash\n" + "\n\n".join(commands) + "\n```\n"] if commands else []
    return "\n".join([*block, *others])


def _anchor(text: str) -> str:
    return text.replace(" ", "-")
