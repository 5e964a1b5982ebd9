"""Progress bars on a terminal. On anything that is not a terminal they print nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar:
    """The bar of one task; `progress_bar` shows it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: float, total: float) -> None:
        """Show that `done` of `total` is complete."""
        self._progress.update(self._task, completed=done, total=total)

    def advance(self) -> None:
        """Show that one more item is complete."""
        self._progress.advance(self._task)

    def describe(self, description: str) -> None:
        """Replace the text in front of the bar."""
        self._progress.update(self._task, description=description)


@contextmanager
def progress_bar(
    console: Console, description: str, total: float | None = None, *, counts: bool = True
) -> Iterator[ProgressBar]:
    """Show a progress bar on `console` while the context lasts, if `console` is a terminal.

    Args:
        console: Where to show the bar.
        description: The text in front of the bar.
        total: The number of items, where it is known from the beginning.
        counts: Whether to show "done/total".
    """
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        *([MofNCompleteColumn()] if counts else []),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    # Without redirect_stdout=False, rich would send standard output to the console of the bar, which may be standard error.
    progress = Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    )
    with progress:
        yield ProgressBar(progress, progress.add_task(description, total=total))
