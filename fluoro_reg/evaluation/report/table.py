"""The tables of an evaluation's report: one row per method, the best value of each column in bold, dangerous counts in red."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from fluoro_reg.evaluation.comparison import CORRECT_MM, GROSS_MM, PERCENTS, SUCCESS_MM, MethodSummary
from fluoro_reg.evaluation.statistics import TOO_FEW_STARTS


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    `text` is the content of a cell. `value` determines the best cell: the maximum for `direction` 1, the minimum for -1, none
    for 0.
    """

    name: str
    value: Callable[[MethodSummary], float]
    text: Callable[[MethodSummary], str]
    direction: int = 0


def _number(value: float, digits: int = 2) -> str:
    """Format a number; NaN (unknown) is a dash."""
    if math.isnan(value):
        return "&ndash;"
    return f"{value:.{digits}f}" if math.isfinite(value) else "&infin;"


def _percentile_column(n: int) -> Column:
    def text(summary: MethodSummary) -> str:
        p = summary.mtre[n]
        return f'{_number(p.value)}<small class="interval">{_number(p.low)}&ndash;{_number(p.high)}</small>'

    name = "median" if PERCENTS[n] == 50 else f"p{PERCENTS[n]:g}"
    return Column(f"mTRE<br>{name}", lambda summary: summary.mtre[n].value, text, -1)


def _success_column(n: int) -> Column:
    return Column(
        f"within<br>{SUCCESS_MM[n]:g} mm",
        lambda summary: summary.success[n],
        lambda summary: f"{100 * summary.success[n]:.0f} %",
        1,
    )


def _median_column(name: str, key: str) -> Column:
    return Column(name, lambda summary: summary.medians[key], lambda summary: _number(summary.medians[key]), -1)


def _gross_accepted(summary: MethodSummary) -> str:
    count = summary.verdicts.gross_accepted
    return f'<span class="danger">{count}</span>' if count else "0"


def _capture_mm(summary: MethodSummary) -> float:
    """Return the capture range, or NaN if there are too few initial poses even in the first bin."""
    if summary.capture is None or (summary.capture.mm == 0 and summary.capture.ended_by == TOO_FEW_STARTS):
        return math.nan
    return summary.capture.mm


def _capture(summary: MethodSummary) -> str:
    ended_by = "" if summary.capture is None else summary.capture.ended_by
    return f"{_number(_capture_mm(summary), 0)}<small>{escape(ended_by)}</small>"


COLUMNS = (
    Column("n", lambda summary: summary.records, lambda summary: str(summary.records)),
    *(_success_column(n) for n in range(len(SUCCESS_MM))),
    *(_percentile_column(n) for n in range(len(PERCENTS))),
    _median_column("in<br>plane", "in_plane_mm"),
    _median_column("<br>depth", "depth_mm"),
    _median_column("<br>mPD", "mpd_mm"),
    _median_column("<br>mRPD", "mrpd_mm"),
    _median_column("DiffPose<br>scaled", "diffpose_scaled_mrpe"),
    Column(f"&gt; {GROSS_MM:g} mm<br>accepted", lambda summary: summary.verdicts.gross_accepted, _gross_accepted, -1),
    Column(f"&gt; {GROSS_MM:g} mm<br>rejected", lambda summary: math.nan, lambda summary: str(summary.verdicts.gross_rejected)),
    Column(
        f"≤ {CORRECT_MM:g} mm<br>rejected",
        lambda summary: summary.verdicts.false_rejects,
        lambda summary: str(summary.verdicts.false_rejects),
        -1,
    ),
    Column("capture<br>range", _capture_mm, _capture, 1),
    Column("<br>seconds", lambda summary: summary.seconds, lambda summary: _number(summary.seconds), -1),
    Column("<br>renders", lambda summary: summary.renders, lambda summary: _number(summary.renders, 0), -1),
)


def comparison_table(summaries: Sequence[MethodSummary]) -> str:
    """Return the table as HTML in a box that scrolls horizontally."""
    best = {column.name: _best(column, summaries) for column in COLUMNS}
    head = "".join(f"<th>{column.name}</th>" for column in COLUMNS)
    rows = "".join(
        f'<tr><th class="text" scope="row">{escape(summary.method)}</th>'
        + "".join(_cell(column.text(summary), column.value(summary) == best[column.name]) for column in COLUMNS)
        + "</tr>"
        for summary in summaries
    )
    return (
        f'<div class="scroll"><table class="figures"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _best(column: Column, summaries: Sequence[MethodSummary]) -> float:
    """Return the best value, or NaN (which equals no value) if all values are equal."""
    values = [column.value(summary) for summary in summaries if not math.isnan(column.value(summary))]
    if not column.direction or len(set(values)) < 2:
        return math.nan
    return max(values) if column.direction > 0 else min(values)


def _cell(text: str, best: bool) -> str:
    return f'<td class="best">{text}</td>' if best else f"<td>{text}</td>"
