"""The plots of the demo's report: errors and latencies by frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fluoro_reg.demo.assessment import FrameRecord
from fluoro_reg.evaluation.report.plot_style import BAD, INK, SERIES, legend, note, plot_settings, svg

STAGES = ("transport", "decode", "preprocess", "search", "refine", "assess")


def error_plot(records: Sequence[FrameRecord]) -> str:
    """True 3-D error, its parts in the image plane and in depth; rejected frames as bands."""
    with plot_settings("errors"):
        figure, axes = _figure(records, "error, mm")
        rows = [(e.mtre_mm, e.in_plane_mm, e.depth_mm) if (e := record.errors) else (np.nan,) * 3 for record in records]
        for n, name in enumerate(("3-D (mTRE)", "in the image plane", "in depth")):
            style: dict[str, Any] = {"lw": 2.0, "ms": 5, "zorder": 3} if n == 0 else {"lw": 1.2, "ms": 3}
            axes.plot(
                [record.index for record in records], [row[n] for row in rows], "o-", color=SERIES[n], label=name, **style
            )
        _bands(axes, records)
        legend(axes)
        return svg(figure, "True error of the published transforms, by frame")


def latency_plot(records: Sequence[FrameRecord]) -> str:
    """Stages of each frame's latency, stacked, with the median and the 99th percentile of the accepted ones."""
    with plot_settings("latency"):
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
            note(axes, f"{name}\n{value:.0f} ms", (1, value), ("axes fraction", "data"), (4, 0), va=side)
        _bands(axes, records)
        legend(axes)
        return svg(figure, "Latency from the image's publication to the answer in another process, by frame and stage")


def stage_seconds(record: FrameRecord) -> dict[str, float]:
    """Parts of `latency_s`: what the node measured, and transport, which is the rest: DDS, waiting, conversion of messages."""
    if record.latency_s is None:
        return {}
    stages = {name: record.seconds.get(name, record.seconds.get(f"register.{name}", 0.0)) for name in STAGES[1:]}
    return {"transport": max(0.0, record.latency_s - sum(stages.values())), **stages}


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
            note(axes, "blank" if record.blank else "rejected", (record.index, 1), ("data", "axes fraction"), (0, -3), **style)
