"""The plots of the demo's report: errors and latencies by frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fluoro_reg.demo.assessment import FrameRecord
from fluoro_reg.evaluation.report.plot_style import INK, SERIES, WARNING, add_legend, annotate, figure_to_svg, plot_settings
from fluoro_reg.registration.bodies.overlay import colour_of

STAGES = ("transport", "decode", "preprocess", "search", "refine", "assess")
BODY_STAGES = ("prepare", "find each body", "refine together", "assess bodies")  # one part of the latency, where bones move


def error_plot(records: Sequence[FrameRecord]) -> str:
    """Plot the 3-D error of each frame with its in-plane and depth components; rejected frames are shaded."""
    with plot_settings("errors"):
        figure, axes = _figure(records, "error, mm")
        rows = [(e.mtre_mm, e.in_plane_mm, e.depth_mm) if (e := record.errors) else (np.nan,) * 3 for record in records]
        for n, name in enumerate(("3-D (mTRE)", "in the image plane", "in depth")):
            style: dict[str, Any] = {"lw": 2.0, "ms": 5, "zorder": 3} if n == 0 else {"lw": 1.2, "ms": 3}
            axes.plot(
                [record.index for record in records], [row[n] for row in rows], "o-", color=SERIES[n], label=name, **style
            )
        _shade_rejected(axes, records)
        add_legend(axes)
        return figure_to_svg(figure, "Error of the published transforms, by frame")


def bodies_plot(records: Sequence[FrameRecord]) -> str:
    """Plot the in-plane error of every body in the frames in which it was accepted."""
    with plot_settings("bodies"):
        figure, axes = _figure(records, "in-plane error, mm")
        for number, name in enumerate(records[0].bodies):
            errors = [record.bodies[name].errors for record in records]
            rows = [np.nan if e is None else e.in_plane_mm for e in errors]
            colour = tuple(level / 255 for level in colour_of(number))
            axes.plot([record.index for record in records], rows, "o-", lw=1.6, ms=4, color=colour, label=name)
        _shade_rejected(axes, records)
        add_legend(axes)
        return figure_to_svg(figure, "In-plane error of every body, by frame")


def latency_plot(records: Sequence[FrameRecord]) -> str:
    """Plot the latency of each frame as stacked stages, with the median and the 99th percentile of the accepted frames."""
    with plot_settings("latency"):
        figure, axes = _figure(records, "latency, ms")
        base = np.zeros(len(records))
        shown = (*STAGES, "bodies") if any(record.bodies for record in records) else STAGES
        for colour, stage in zip((*SERIES, INK), shown, strict=False):
            heights = np.array([1000 * stage_seconds(record).get(stage, 0.0) for record in records])
            axes.bar([record.index for record in records], heights, 0.72, bottom=base, color=colour, label=stage)
            base += heights
        totals = [1000 * record.latency_s for record in records if record.accepted and record.latency_s is not None]
        for name, percentile, side in (("median", 50, "top"), ("p99", 99, "bottom")) if totals else ():
            value = float(np.percentile(totals, percentile))
            axes.axhline(value, color=INK, lw=1, ls=(0, (4, 3)))
            annotate(axes, f"{name}\n{value:.0f} ms", (1, value), ("axes fraction", "data"), (4, 0), va=side)
        _shade_rejected(axes, records)
        add_legend(axes)
        return figure_to_svg(figure, "Latency from publication of the image to receipt of the answer, by frame and stage")


def stage_seconds(record: FrameRecord) -> dict[str, float]:
    """Return the parts of `latency_s`: the node's stages, and transport, which is the rest (DDS, waiting, conversion)."""
    if record.latency_s is None:
        return {}
    stages = {name: record.seconds.get(name, record.seconds.get(f"register.{name}", 0.0)) for name in STAGES[1:]}
    if record.bodies:
        stages["bodies"] = sum(record.seconds.get(f"register.{name}", 0.0) for name in BODY_STAGES)
    return {"transport": max(0.0, record.latency_s - sum(stages.values())), **stages}


def _figure(records: Sequence[FrameRecord], label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="frame", ylabel=label, xlim=(-0.8, len(records) - 0.2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _shade_rejected(axes: Axes, records: Sequence[FrameRecord]) -> None:
    """Shade rejected frames and start the y axis at zero."""
    maximum = axes.dataLim.ymax
    axes.set_ylim(0, 1.18 * maximum if 0 < maximum < np.inf else 1)
    for record in records:
        if not record.accepted:
            axes.axvspan(record.index - 0.42, record.index + 0.42, color=WARNING, alpha=0.22, lw=0, zorder=0)
            style = {"rotation": 90, "ha": "center", "va": "top", "color": WARNING, "fontsize": 8}
            label = "blank" if record.blank else "rejected"
            annotate(axes, label, (record.index, 1), ("data", "axes fraction"), (0, -3), **style)
