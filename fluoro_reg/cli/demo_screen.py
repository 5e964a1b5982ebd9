"""What the demo shows in the terminal: steps with their times, one line a frame as it happens, and what it came to."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from fluoro_reg.cli.output import table_of
from fluoro_reg.demo.screen import AbstractScreen

if TYPE_CHECKING:
    from fluoro_reg.demo.assessment import FrameRecord
    from fluoro_reg.demo.files import DemoOutcome

HEAD = f"{'frame':>6}  {'verdict':<9}{'mTRE mm':>9}{'in-plane':>10}{'depth':>8}{'turn deg':>10}{'latency':>10}  reason"


class DemoScreen(AbstractScreen):
    """Writes to one console; bars only on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
        """A step that takes a while; gives a function (done, of) that moves the bar, and afterwards a line with the time."""
        begin = time.monotonic()
        with self._bar(counts=total is not None) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done, of: bar.update(task, completed=done, total=of)
        seconds = time.monotonic() - begin
        self._console.print(Text.assemble(("✓ ", "green"), f"{what:<64}", (f"{seconds:5.1f} s", "dim")))

    @contextmanager
    def frames(self, total: int) -> Iterator[Callable[["FrameRecord"], None]]:
        """The table of frames; gives a function that adds a line."""
        self._console.print(Text(f"\n{HEAD}", style="bold"))
        with self._bar(counts=True) as bar:
            task = bar.add_task("registering", total=total)

            def show(record: "FrameRecord") -> None:
                bar.console.print(frame_line(record), soft_wrap=True)
                bar.advance(task)

            yield show

    def pause(self) -> None:
        """An empty line."""
        self._console.print()

    def finished(self, outcome: "DemoOutcome", folder: Path) -> None:
        """The summary."""
        good = not outcome.shortcomings
        reasons = [Text(f"\n{sentence}", style="red") for sentence in outcome.shortcomings]
        lines = Group(table_of(summary_lines(outcome)), *reasons)
        title, style = ("The patient is on tf2", "green") if good else ("The demo did not do what it should", "red")
        self._console.print()
        self._console.print(Panel(lines, title=title, border_style=style, expand=False, padding=(1, 3)))
        self._console.print(f"\nreport: {folder / 'report.html'}", soft_wrap=True)

    def _bar(self, counts: bool) -> Progress:
        columns = [TextColumn("{task.description}"), BarColumn(), *([MofNCompleteColumn()] if counts else [])]
        return Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)


def frame_line(record: "FrameRecord") -> Text:
    """One frame; numbers only where there is something to measure."""
    verdict, colour = ("accepted", "green") if record.accepted else ("rejected", "yellow")
    e = record.errors
    numbers = f"{'':>37}" if e is None else f"{e.mtre_mm:9.2f}{e.in_plane_mm:10.2f}{e.depth_mm:8.2f}{e.rotation_deg:10.2f}"
    latency = "" if record.latency_s is None else f"{1000 * record.latency_s:.0f} ms"
    reason = (record.reason, "" if record.accepted else colour)
    return Text.assemble(f"{record.index:>6}  ", (f"{verdict:<9}", colour), numbers, f"{latency:>10}  ", reason)


def summary_lines(outcome: "DemoOutcome") -> dict[str, str]:
    """`summary.json` in words."""
    content = outcome.summary
    millimetres = [_shown(content[key], 1, 2, "mm") for key in ("median_mtre_mm", "max_mtre_mm")]
    milliseconds = [_shown(content[key], 1000, 0, "ms") for key in ("median_latency_s", "p99_latency_s")]
    return {
        "frames": f"{content['frames']}: {content['accepted']} accepted, {content['rejected']} rejected",
        "true 3-D error (mTRE)": "median {}, worst {}".format(*millimetres),
        "image to transform": "median {}, p99 {}".format(*milliseconds) + f" on {content['device']}",
        "heard on /tf": f"{content['tf_received']} transforms, by a process of its own",
    }


def _shown(value: float | None, scale: float, digits: int, unit: str) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f} {unit}"
