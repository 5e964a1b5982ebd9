"""The demo's output on the terminal: steps with their times, one line for each frame, and a summary."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from fluoro_reg.cli.output import key_value_table
from fluoro_reg.cli.progress import progress_bar
from fluoro_reg.demo.screen import AbstractScreen

if TYPE_CHECKING:
    from fluoro_reg.demo.assessment import FrameRecord
    from fluoro_reg.demo.files import DemoOutcome

TABLE_HEADER = f"{'frame':>6}  {'verdict':<9}{'mTRE mm':>9}{'in-plane':>10}{'depth':>8}{'angle deg':>11}{'latency':>10}  reason"


class DemoScreen(AbstractScreen):
    """Writes to one console, with progress bars if it is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
        """Show a progress bar during a step, then a line with its time; yield a function (done, of) that moves the bar."""
        start = time.monotonic()
        with progress_bar(self._console, what, total, counts=total is not None) as bar:
            yield bar.update
        seconds = time.monotonic() - start
        self._console.print(Text.assemble(("✓ ", "green"), f"{what:<64}", (f"{seconds:5.1f} s", "dim")))

    @contextmanager
    def frames(self, total: int) -> Iterator[Callable[["FrameRecord"], None]]:
        """Show the table of frames; yield a function that adds a line."""
        self._console.print(Text(f"\n{TABLE_HEADER}", style="bold"))
        with progress_bar(self._console, "registering", total) as bar:

            def show(record: "FrameRecord") -> None:
                self._console.print(frame_line(record), soft_wrap=True)
                bar.advance()

            yield show

    def pause(self) -> None:
        """Print an empty line."""
        self._console.print()

    def show_outcome(self, outcome: "DemoOutcome", folder: Path) -> None:
        """Print the summary and where the report is."""
        reasons = [Text(f"\n{sentence}", style="red") for sentence in outcome.failed_checks]
        lines = Group(key_value_table(summary_lines(outcome)), *reasons)
        title, style = ("The demo failed its checks", "red") if outcome.failed_checks else ("The patient is on tf2", "green")
        self._console.print()
        self._console.print(Panel(lines, title=title, border_style=style, expand=False, padding=(1, 3)))
        self._console.print(f"\nreport: {folder / 'report.html'}", soft_wrap=True)


def frame_line(record: "FrameRecord") -> Text:
    """Return the line of one frame; the errors are empty if there is no pose to compare."""
    verdict, colour = ("accepted", "green") if record.accepted else ("rejected", "yellow")
    e = record.errors
    errors = f"{'':>38}" if e is None else f"{e.mtre_mm:9.2f}{e.in_plane_mm:10.2f}{e.depth_mm:8.2f}{e.rotation_deg:11.2f}"
    latency = "" if record.latency_s is None else f"{1000 * record.latency_s:.0f} ms"
    reason = (record.reason, "" if record.accepted else colour)
    bodies = [(f"  {name}", "green" if body.accepted else "yellow") for name, body in record.bodies.items()]
    return Text.assemble(f"{record.index:>6}  ", (f"{verdict:<9}", colour), errors, f"{latency:>10}  ", reason, *bodies)


def summary_lines(outcome: "DemoOutcome") -> dict[str, str]:
    """Return the content of `summary.json` as text."""
    content = outcome.summary
    millimetres = [_quantity(content[key], 1, 2, "mm") for key in ("median_mtre_mm", "max_mtre_mm")]
    milliseconds = [_quantity(content[key], 1000, 0, "ms") for key in ("median_latency_s", "p99_latency_s")]
    return {
        "frames": f"{content['frames']}: {content['accepted']} accepted, {content['rejected']} rejected",
        "true 3-D error (mTRE)": "median {}, maximum {}".format(*millimetres),
        "latency from image to transform": "median {}, p99 {}".format(*milliseconds) + f" on {content['device']}",
        "received on /tf": f"{content['tf_received']} transforms, by a separate process",
        **{name: _body_line(body) for name, body in content.get("bodies", {}).items()},
    }


def _body_line(body: dict[str, Any]) -> str:
    errors = [_quantity(body[key], 1, 2, "mm") for key in ("median_in_plane_mm", "max_in_plane_mm")]
    return f"{body['accepted']} accepted; in plane, " + "median {}, maximum {}".format(*errors)


def _quantity(value: float | None, scale: float, digits: int, unit: str) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f} {unit}"
