"""The tables of an evaluation's report: a row a method, the best of each column in bold, what is dangerous in red."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from fluoro_reg.evaluation.comparison import GROSS_MM, PERCENTS, RIGHT_MM, SUCCESS_MM, MethodSummary
from fluoro_reg.evaluation.statistics import TOO_FEW_STARTS


@dataclass(frozen=True, slots=True)
class Column:
    """`value` is what the best is chosen by: the highest for `better` 1, the lowest for -1, none for 0."""

    name: str
    value: Callable[[MethodSummary], float]
    text: Callable[[MethodSummary], str]
    better: int = 0


def _number(value: float, digits: int = 2) -> str:
    """NaN, what cannot be told, is a dash."""
    if math.isnan(value):
        return "&ndash;"
    return f"{value:.{digits}f}" if math.isfinite(value) else "&infin;"


def _percentile(n: int) -> Column:
    def text(line: MethodSummary) -> str:
        p = line.mtre[n]
        return f'{_number(p.value)}<small class="interval">{_number(p.low)}&ndash;{_number(p.high)}</small>'

    name = "median" if PERCENTS[n] == 50 else f"p{PERCENTS[n]:g}"
    return Column(f"mTRE<br>{name}", lambda line: line.mtre[n].value, text, -1)


def _share(n: int) -> Column:
    return Column(
        f"within<br>{SUCCESS_MM[n]:g} mm", lambda line: line.success[n], lambda line: f"{100 * line.success[n]:.0f} %", 1
    )


def _figure(name: str, key: str) -> Column:
    return Column(name, lambda line: line.medians[key], lambda line: _number(line.medians[key]), -1)


def _gross_accepted(line: MethodSummary) -> str:
    count = line.verdicts.gross_accepted
    return f'<span class="danger">{count}</span>' if count else "0"


def _capture_mm(line: MethodSummary) -> float:
    """NaN also where not even the nearest starts are enough to tell."""
    if line.capture is None or (line.capture.mm == 0 and line.capture.ended_by == TOO_FEW_STARTS):
        return math.nan
    return line.capture.mm


def _capture(line: MethodSummary) -> str:
    ended_by = "" if line.capture is None else line.capture.ended_by
    return f"{_number(_capture_mm(line), 0)}<small>{escape(ended_by)}</small>"


COLUMNS = (
    Column("n", lambda line: line.records, lambda line: str(line.records)),
    *(_share(n) for n in range(len(SUCCESS_MM))),
    *(_percentile(n) for n in range(len(PERCENTS))),
    _figure("in<br>plane", "in_plane_mm"),
    _figure("<br>depth", "depth_mm"),
    _figure("<br>mPD", "mpd_mm"),
    _figure("<br>mRPD", "mrpd_mm"),
    _figure("DiffPose<br>scaled", "diffpose_scaled_mrpe"),
    Column(f"&gt; {GROSS_MM:g} mm<br>accepted", lambda line: line.verdicts.gross_accepted, _gross_accepted, -1),
    Column(f"&gt; {GROSS_MM:g} mm<br>rejected", lambda line: math.nan, lambda line: str(line.verdicts.gross_rejected)),
    Column(
        f"≤ {RIGHT_MM:g} mm<br>rejected",
        lambda line: line.verdicts.false_rejects,
        lambda line: str(line.verdicts.false_rejects),
        -1,
    ),
    Column("capture<br>range", _capture_mm, _capture, 1),
    Column("<br>seconds", lambda line: line.seconds, lambda line: _number(line.seconds), -1),
    Column("<br>renders", lambda line: line.renders, lambda line: _number(line.renders, 0), -1),
)


def comparison_table(lines: Sequence[MethodSummary]) -> str:
    """A table as HTML, in a box that scrolls where the page is narrow."""
    best = {column.name: _best(column, lines) for column in COLUMNS}
    head = "".join(f"<th>{column.name}</th>" for column in COLUMNS)
    rows = "".join(
        f'<tr><th class="text" scope="row">{escape(line.method)}</th>'
        + "".join(_cell(column.text(line), column.value(line) == best[column.name]) for column in COLUMNS)
        + "</tr>"
        for line in lines
    )
    return (
        f'<div class="scroll"><table class="figures"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _best(column: Column, lines: Sequence[MethodSummary]) -> float:
    """NaN, which equals nothing, where all are alike."""
    values = [column.value(line) for line in lines if not math.isnan(column.value(line))]
    if not column.better or len(set(values)) < 2:
        return math.nan
    return max(values) if column.better > 0 else min(values)


def _cell(text: str, best: bool) -> str:
    return f'<td class="best">{text}</td>' if best else f"<td>{text}</td>"
