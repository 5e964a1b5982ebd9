"""Markdown tables and plots of horizontal bars."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, PEER = "#0b6e4f", "#8a8f98"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return a table whose first `texts` columns are left-aligned."""
    rule = "|" + "---|" * texts + "--:|" * (len(columns) - texts)
    return "\n".join([_line(columns), rule, *(_line(row) for row in rows)])


def bars(axes: Axes, title: str, values: dict[str, float], label: str, texts: Sequence[str]) -> None:
    """Plot one bar per contender on a logarithmic axis, the smallest on top, ours in colour."""
    order = sorted(range(len(values)), key=list(values.values()).__getitem__)
    names, sizes = [list(values)[n] for n in order], [list(values.values())[n] for n in order]
    axes.barh(names, sizes, color=[OURS if name.startswith("ours") else PEER for name in names], height=0.65)
    for place, n in enumerate(order):
        axes.annotate(texts[n], (sizes[place], place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 2, max(sizes) * 8)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=150, facecolor="white")


def duration(seconds: float) -> str:
    """Return a duration with three digits, in a suitable unit."""
    unit, factor = ("s", 1) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    return f"{seconds * factor:#.3g} {unit}".replace(". ", " ")


def memory(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
