"""The result goes to standard output, everything else to standard error.

With `--json` the result is one line of strict JSON: NaN and Infinity become null. Without `--json` it is text to read.
Warnings are printed after the work is done. If a subcommand fails, standard error therefore holds only the error message.
"""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from fluoro_reg.cli.progress import ProgressBar, progress_bar
from fluoro_reg.formats.json_file import json_line

WIDTH_WITHOUT_TERMINAL = 120


class Output:
    """Standard output and standard error of one subcommand."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.stdout, self.stderr = _console(stderr=False), _console(stderr=True)
        self._warnings: list[str] = []
        self._given_once: set[str] = set()

    def show(self, content: Mapping[str, Any], text: RenderableType | None = None) -> None:
        """Print the warnings, then the result: `content` with `--json`, otherwise `text`."""
        self.show_warnings()
        if self.as_json:
            sys.stdout.write(json_line(content))
            sys.stdout.flush()
        elif text is not None:
            self.stdout.print(text)

    def show_warnings(self) -> None:
        """Print the warnings that were kept."""
        for sentence in self._warnings:
            self.stderr.print(f"[yellow]warning:[/yellow] {escape(sentence)}", soft_wrap=True)
        self._warnings.clear()

    def warn(self, sentence: str) -> None:
        """Keep a warning, to be printed with the result."""
        self._warnings.append(sentence)

    def warn_once(self, sentence: str) -> None:
        """Keep a warning, unless it was given before: many frames have the same."""
        if sentence not in self._given_once:
            self._given_once.add(sentence)
            self.warn(sentence)

    def status(self, activity: str) -> Status:
        """Return a context that shows a spinner on a terminal and nothing elsewhere."""
        return self.stderr.status(f"{activity} ...")

    def progress(self, items: str) -> AbstractContextManager[ProgressBar]:
        """Return a context that shows a progress bar with counts of `items` on a terminal and nothing elsewhere."""
        return progress_bar(self.stderr, items)


def key_value_table(content: Mapping[str, Any]) -> Table:
    """Return names and values as a table to read.

    Numbers have six digits. Rows of a matrix and strings of a list are on separate lines.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in content.items():
        table.add_row(escape(key.replace("_", " ")), escape(_text(value)))
    return table


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    return console


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        separate_lines = any(isinstance(item, (list, tuple, str)) for item in value)
        return ("\n" if separate_lines else ", ").join(_text(item) for item in value) if value else "none"
    return "unknown" if value is None else str(value)
