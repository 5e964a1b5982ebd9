"""What goes where: the answer on standard output, everything else on standard error.

With `--json` the answer is one line of strict JSON (no NaN, no Infinity: they become null), so that a program can read
standard output whole; without it the answer is a table for people. Progress bars and warnings never touch standard output, and
warnings wait for the answer: when there is none, standard error holds the one sentence that says why.
"""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table

from fluoro_reg.formats.json_file import json_line

WIDTH_WITHOUT_TERMINAL = 120


class Output:
    """The two channels of one run."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.answer, self.log = (_console(stderr) for stderr in (False, True))
        self._warnings: list[str] = []

    def show(self, content: Mapping[str, Any], for_people: RenderableType | None = None) -> None:
        """The answer: `content` as JSON, or `for_people`."""
        for sentence in self._warnings:
            self.log.print(f"[yellow]warning:[/yellow] {escape(sentence)}", soft_wrap=True)
        self._warnings.clear()
        if self.as_json:
            sys.stdout.write(json_line(content))
            sys.stdout.flush()
        elif for_people is not None:
            self.answer.print(for_people)

    def warn(self, sentence: str) -> None:
        """Something the user should know of the answer, shown with it."""
        self._warnings.append(sentence)

    def doing(self, what: str) -> Status:
        """A spinner on a terminal, silence elsewhere; use as a context."""
        return self.log.status(f"{what} ...")

    def progress(self) -> Progress:
        """A bar with counts on a terminal, silence elsewhere; use as a context."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # rich would otherwise lead standard output through the bar's console, which is standard error
        return Progress(
            *columns,
            console=self.log,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.log.is_terminal,
        )


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    return console


def table_of(content: Mapping[str, Any]) -> Table:
    """Names and values for people: numbers to six digits, long lists and nested objects on lines of their own."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in content.items():
        table.add_row(escape(key.replace("_", " ")), escape(_words(value)))
    return table


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        rows = any(isinstance(item, (list, tuple, str)) for item in value)
        return ("\n" if rows else ", ").join(_words(item) for item in value) if value else "none"
    return "unknown" if value is None else str(value)
