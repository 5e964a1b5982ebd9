"""The style of the plots in reports: inline SVG by matplotlib, with the colours and the font of the page's style sheet.

Colours are drawn as placeholders and then replaced by CSS variables, so that plots follow the light and dark theme. Text
remains text.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GRID, WARNING = "#000001", "#000002", "#000003"
SERIES = ("#000011", "#000012", "#000013", "#000014", "#000015", "#000016")
_VARIABLES = {INK: "ink", GRID: "line", WARNING: "warn", **{colour: f"series-{n}" for n, colour in enumerate(SERIES)}}
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
    """Return a context with the plot style; `name` makes SVG identifiers reproducible and unique to the figure."""
    settings: Any = {**_STYLE, "svg.hashsalt": name}
    return matplotlib.rc_context(settings)


def annotate(
    axes: Axes, text: str, place: tuple[float, float], units: tuple[str, str], xytext: tuple[int, int], **style: Any
) -> None:
    """Write text at an offset of `xytext` points from `place`, which is in `units`."""
    axes.annotate(text, place, xycoords=units, xytext=xytext, textcoords="offset points", **style)


def add_legend(axes: Axes, columns: int = 6) -> None:
    """Add a legend above the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0, handlelength=1.4, columnspacing=1.6)


def figure_to_svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element; `title` is for screen readers."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # not unique between figures, and not referenced
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img"><title>{title}</title>', text, count=1)
    return re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)
