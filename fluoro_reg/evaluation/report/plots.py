"""The plots of an evaluation's report: cumulative errors, success rate over the initial error, and times, by method."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, PercentFormatter

from fluoro_reg.evaluation.comparison import CAPTURE_OPTIONS, SUCCESS_MM
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.plot_style import GRID, INK, SERIES, add_legend, annotate, figure_to_svg, plot_settings
from fluoro_reg.evaluation.statistics import capture_range

RecordsByMethod = dict[str, list[EvaluationRecord]]
_ERROR_TICKS_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_LINE_STYLES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))  # used if there are more methods than colours


def group_by_method(records: Sequence[EvaluationRecord]) -> RecordsByMethod:
    """Return the records of each method, in the order in which the methods first appear."""
    return {
        method: [record for record in records if record.method == method]
        for method in dict.fromkeys(record.method for record in records)
    }


def cumulative_plot(methods: RecordsByMethod) -> str:
    """Plot the cumulative distribution of the mTRE, with the common thresholds as lines."""
    with plot_settings("cumulative"):
        figure, axes = _figure(6.4, 3.7, "mTRE, mm", "fraction of registrations")
        axes.set_xscale("log")
        low, high = _ERROR_TICKS_MM[0], _ERROR_TICKS_MM[-1]
        for n, (method, records) in enumerate(methods.items()):
            errors = np.sort([record.trial.mtre_mm for record in records]).clip(low / 2, None)
            fractions = np.arange(1, len(errors) + 1) / len(errors)
            axes.plot(
                [low / 2, *errors, high], [0, *fractions, np.mean(errors <= high)], drawstyle="steps-post", **_style(n, method)
            )
        for within in SUCCESS_MM:
            axes.axvline(within, color=INK, lw=0.7, ls=(0, (1, 2)))
        _ticks(axes, _ERROR_TICKS_MM)
        axes.set(xlim=(low, high), ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        add_legend(axes, columns=3)
        return figure_to_svg(figure, "Cumulative fraction of registrations over mTRE, by method")


def initial_error_plot(methods: RecordsByMethod) -> str:
    """Plot the success rate within 2 mm over the initial mTRE in bins, with the size of each bin at the top."""
    with plot_settings("starts"):
        figure, axes = _figure(6.4, 3.7, "initial mTRE, mm", f"within {CAPTURE_OPTIONS.success_mm:g} mm")
        counts: dict[float, int] = {}
        for n, (method, records) in enumerate(methods.items()):
            trials = [record.trial for record in records if record.start_mtre_mm is not None]
            bins = capture_range(trials, CAPTURE_OPTIONS).bins if trials else ()
            centres = [(entry.low_mm + entry.high_mm) / 2 for entry in bins]
            rates = [entry.successes / entry.starts if entry.starts else math.nan for entry in bins]
            axes.plot(centres, rates, "o", ms=4, **_style(n, method))
            counts = {
                centre: max(entry.starts, counts.get(centre, 0)) for centre, entry in zip(centres, bins, strict=True)
            } | counts
        for centre, count in counts.items():
            annotate(
                axes, str(count) if count else "", (centre, 1), ("data", "axes fraction"), (0, -9), ha="center", fontsize=7.5
            )
        axes.set(xlim=(0, None), ylim=(-0.02, 1.12))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        add_legend(axes, columns=3)
        return figure_to_svg(figure, "Success rate over the initial mTRE, by method")


def time_plot(methods: RecordsByMethod) -> str:
    """Plot the time of every registration in seconds, with median and quartiles."""
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
        return figure_to_svg(figure, "Seconds per registration, by method")


def _seconds(records: Sequence[EvaluationRecord]) -> list[float]:
    timed = [record for record in records if record.seconds is not None]
    return [record.seconds for record in [r for r in timed if r.warm] or timed if record.seconds is not None]


def _style(n: int, method: str) -> dict:
    """Return colour, line style and label of the n-th method."""
    line_style = _LINE_STYLES[n // len(SERIES) % len(_LINE_STYLES)]
    return {"color": SERIES[n % len(SERIES)], "ls": line_style, "lw": 1.8, "label": method}


def _figure(width: float, height: float, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(True, color=GRID)
    return figure, axes


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers."""
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    axes.xaxis.set_minor_locator(NullLocator())
