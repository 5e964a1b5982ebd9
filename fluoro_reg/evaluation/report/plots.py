"""The plots of an evaluation's report: cumulative errors, success over the start's distance, times; one colour a method."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, PercentFormatter

from fluoro_reg.evaluation.comparison import CAPTURE, SUCCESS_MM
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.plot_style import GRID, INK, SERIES, legend, note, plot_settings, svg
from fluoro_reg.evaluation.statistics import capture_range

ByMethod = dict[str, list[EvaluationRecord]]
_ERROR_TICKS_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_LINES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))  # for methods beyond the number of colours


def by_method(records: Sequence[EvaluationRecord]) -> ByMethod:
    """The records of each method, in the records' order."""
    return {
        method: [record for record in records if record.method == method]
        for method in dict.fromkeys(record.method for record in records)
    }


def cumulative_plot(methods: ByMethod) -> str:
    """The share of registrations whose mTRE is at most so much; the usual thresholds as lines."""
    with plot_settings("cumulative"):
        figure, axes = _figure(6.4, 3.7, "mTRE, mm", "share of registrations")
        axes.set_xscale("log")
        low, high = _ERROR_TICKS_MM[0], _ERROR_TICKS_MM[-1]
        for n, (method, records) in enumerate(methods.items()):
            errors = np.sort([record.trial.mtre_mm for record in records]).clip(low / 2, None)
            shares = np.arange(1, len(errors) + 1) / len(errors)
            axes.plot(
                [low / 2, *errors, high], [0, *shares, np.mean(errors <= high)], drawstyle="steps-post", **_look(n, method)
            )
        for within in SUCCESS_MM:
            axes.axvline(within, color=INK, lw=0.7, ls=(0, (1, 2)))
        _ticks(axes, _ERROR_TICKS_MM)
        axes.set(xlim=(low, high), ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        legend(axes, columns=3)
        return svg(figure, "Cumulative share of registrations over mTRE, by method")


def start_plot(methods: ByMethod) -> str:
    """Successes within 2 mm over the start's mTRE, in bins; how many starts a bin has is written at the top."""
    with plot_settings("starts"):
        figure, axes = _figure(6.4, 3.7, "mTRE of the start, mm", f"within {CAPTURE.success_mm:g} mm")
        counts: dict[float, int] = {}
        for n, (method, records) in enumerate(methods.items()):
            trials = [record.trial for record in records if record.start_mtre_mm is not None]
            bins = capture_range(trials, CAPTURE).bins if trials else ()
            middles = [(entry.low_mm + entry.high_mm) / 2 for entry in bins]
            shares = [entry.successes / entry.starts if entry.starts else math.nan for entry in bins]
            axes.plot(middles, shares, "o", ms=4, **_look(n, method))
            counts = {
                middle: max(entry.starts, counts.get(middle, 0)) for middle, entry in zip(middles, bins, strict=True)
            } | counts
        for middle, count in counts.items():
            note(axes, str(count) if count else "", (middle, 1), ("data", "axes fraction"), (0, -9), ha="center", fontsize=7.5)
        axes.set(xlim=(0, None), ylim=(-0.02, 1.12))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        legend(axes, columns=3)
        return svg(figure, "Share of successes over the start's distance, by method")


def time_plot(methods: ByMethod) -> str:
    """Seconds a registration: every one as a mark, with median and quartiles."""
    with plot_settings("times"):
        figure, axes = _figure(13.0, 0.7 + 0.42 * len(methods), "s", "")
        axes.set_xscale("log")
        rows = {method: _seconds(records) for method, records in methods.items()}
        for n, values in enumerate(rows.values()):
            colour = SERIES[n % len(SERIES)]
            heights = -n + 0.3 * np.linspace(-1, 1, len(values))[np.random.default_rng(n).permutation(len(values))]
            axes.plot(values, heights, ".", color=colour, ms=3, alpha=0.45)
            if len(values):
                first, middle, third = np.percentile(values, (25, 50, 75))
                axes.plot([first, third], [-n, -n], color=colour, lw=6, alpha=0.5, solid_capstyle="butt")
                axes.plot([middle, middle], [-n - 0.33, -n + 0.33], color=INK, lw=1.6)
        axes.set_yticks([-n for n in range(len(rows))], list(rows))
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        values = [value for row in rows.values() for value in row] or [1.0]
        _ticks(
            axes,
            [
                t
                for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
                if min(values) / 3 < t < max(values) * 3
            ],
        )
        return svg(figure, "Seconds a registration, by method")


def _seconds(records: Sequence[EvaluationRecord]) -> list[float]:
    timed = [record for record in records if record.seconds is not None]
    return [record.seconds for record in [r for r in timed if r.warm] or timed if record.seconds is not None]


def _look(n: int, method: str) -> dict:
    """Colour, line and name of the n-th method."""
    return {"color": SERIES[n % len(SERIES)], "ls": _LINES[n // len(SERIES) % len(_LINES)], "lw": 1.8, "label": method}


def _figure(width: float, height: float, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up)
    axes.grid(True, color=GRID)
    return figure, axes


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    """Plain numbers on a logarithmic axis."""
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    axes.xaxis.set_minor_locator(NullLocator())
