"""The style of the reports' plots: inline SVG that matplotlib draws and the page's style sheet colours, in light and in dark.

Every colour is drawn as a placeholder that is then replaced by a CSS variable; texts stay texts, in the page's own font.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def plot_settings(name: str) -> AbstractContextManager[None]:
    """`name` makes the identifiers of a figure's parts its own, and the same every time."""
    settings: Any = {**_STYLE, "svg.hashsalt": name}
    return matplotlib.rc_context(settings)


def note(
    axes: Axes, text: str, place: tuple[float, float], units: tuple[str, str], xytext: tuple[int, int], **style: Any
) -> None:
    """Text beside a place, `xytext` points away."""
    axes.annotate(text, place, xycoords=units, xytext=xytext, textcoords="offset points", **style)


def legend(axes: Axes, columns: int = 6) -> None:
    """Above the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0, handlelength=1.4, columnspacing=1.6)


def svg(figure: Figure, title: str) -> str:
    """The figure as an element of the page; screen readers read its title."""
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
