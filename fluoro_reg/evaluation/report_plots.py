"""The report's plots as inline SVG: matplotlib draws them, the page's style sheet colours them, in light and in dark.

Every colour is drawn as a placeholder that is then replaced by a CSS variable; texts stay texts, in the page's own font.
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fluoro_reg.evaluation.demo import FrameRecord

INK, GRID, BAD = "#000001", "#000002", "#000003"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015", "#000016")
_VARIABLES = {INK: "ink", GRID: "line", BAD: "warn", **{colour: f"series-{n}" for n, colour in enumerate(SERIES)}}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.linewidth": 0.8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), GRID),
}
STAGES = ("transport", "decode", "preprocess", "search", "refine", "judge")


def error_plot(records: Sequence[FrameRecord]) -> str:
    """True 3-D error, its parts in the image plane and in depth; rejected frames as bands."""
    with _style("errors"):
        figure, axes = _figure(records, "error, mm")
        rows = [(e.mtre_mm, e.in_plane_mm, e.depth_mm) if (e := record.errors) else (np.nan,) * 3 for record in records]
        for n, name in enumerate(("3-D (mTRE)", "in the image plane", "in depth")):
            style: dict[str, Any] = {"lw": 2.0, "ms": 5, "zorder": 3} if n == 0 else {"lw": 1.2, "ms": 3}
            axes.plot(
                [record.index for record in records], [row[n] for row in rows], "o-", color=SERIES[n], label=name, **style
            )
        _bands(axes, records)
        _legend(axes)
        return _svg(figure, "True error of the published transforms, by frame")


def latency_plot(records: Sequence[FrameRecord]) -> str:
    """Stages of each frame's latency, stacked, with the median and the 99th percentile of the accepted ones."""
    with _style("latency"):
        figure, axes = _figure(records, "latency, ms")
        base = np.zeros(len(records))
        for colour, stage in enumerate(STAGES):
            heights = np.array([1000 * stage_seconds(record).get(stage, 0.0) for record in records])
            axes.bar([record.index for record in records], heights, 0.72, bottom=base, color=SERIES[colour], label=stage)
            base += heights
        totals = [1000 * record.latency_s for record in records if record.accepted and record.latency_s is not None]
        for name, percentile, side in (("median", 50, "top"), ("p99", 99, "bottom")) if totals else ():
            value = float(np.percentile(totals, percentile))
            axes.axhline(value, color=INK, lw=1, ls=(0, (4, 3)))
            _note(axes, f"{name}\n{value:.0f} ms", (1, value), ("axes fraction", "data"), (4, 0), va=side)
        _bands(axes, records)
        _legend(axes)
        return _svg(figure, "Latency from the image's publication to the answer in another process, by frame and stage")


def stage_seconds(record: FrameRecord) -> dict[str, float]:
    """Parts of `latency_s`: what the node measured, and transport, which is the rest: DDS, waiting, conversion of messages."""
    if record.latency_s is None:
        return {}
    stages = {name: record.seconds.get(name, record.seconds.get(f"register.{name}", 0.0)) for name in STAGES[1:]}
    return {"transport": max(0.0, record.latency_s - sum(stages.values())), **stages}


def _style(name: str) -> AbstractContextManager[None]:
    """`name` makes the identifiers of a figure's parts its own, and the same every time."""
    settings: Any = {**_STYLE, "svg.hashsalt": name}
    return matplotlib.rc_context(settings)


def _figure(records: Sequence[FrameRecord], label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="frame", ylabel=label, xlim=(-0.8, len(records) - 0.2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _bands(axes: Axes, records: Sequence[FrameRecord]) -> None:
    """Rejected frames; the y axis begins at zero."""
    highest = axes.dataLim.ymax
    axes.set_ylim(0, 1.18 * highest if 0 < highest < np.inf else 1)
    for record in records:
        if not record.accepted:
            axes.axvspan(record.index - 0.42, record.index + 0.42, color=BAD, alpha=0.22, lw=0, zorder=0)
            style = {"rotation": 90, "ha": "center", "va": "top", "color": BAD, "fontsize": 8}
            _note(axes, "blank" if record.blank else "rejected", (record.index, 1), ("data", "axes fraction"), (0, -3), **style)


def _note(
    axes: Axes, text: str, place: tuple[float, float], units: tuple[str, str], xytext: tuple[int, int], **style: Any
) -> None:
    axes.annotate(text, place, xycoords=units, xytext=xytext, textcoords="offset points", **style)


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6, borderaxespad=0, handlelength=1.4, columnspacing=1.6)


def _svg(figure: Figure, title: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every figure, and nobody refers to them
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img"><title>{title}</title>', text, count=1)
    return re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)
