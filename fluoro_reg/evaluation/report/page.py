"""Elements of the HTML reports, which are self-contained files without network access, with a light and a dark theme.

The text of the pages is in `templates/`. Variable text (reasons, configuration, versions) is escaped, and images are data URIs.
"""

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files


def read_template(package: str, name: str) -> str:
    """Return the content of a file in the `templates/` folder of a package, such as `fluoro_reg.demo`."""
    return (files(package) / "templates" / name).read_text(encoding="utf-8")


def style_sheet() -> str:
    """Return the CSS of all reports."""
    return read_template(__package__, "report.css")


def data_uri(webp: bytes) -> str:
    """Return a WebP image as a data URI."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def figure_html(layers: Sequence[tuple[str, bytes]], title: str, text: str) -> str:
    """Return a figure of stacked images (name, WebP) of equal size with a caption."""
    images = "".join(f'<img alt="{escape(name)}" src="{data_uri(webp)}">' for name, webp in layers)
    caption = f"<figcaption><b>{escape(title)}:</b> {escape(text)}</figcaption>"
    return f'<figure><div class="layers">{images}</div>{caption}</figure>'


def text_row(cells: Sequence[str]) -> str:
    """Return a table row of left-aligned text."""
    return "<tr>" + "".join(f'<td class="text">{escape(cell)}</td>' for cell in cells) + "</tr>"


def card(value: str, label: str) -> str:
    """Return a card with a large value, given as HTML, and a label."""
    return f'<div class="card"><b>{value}</b><span>{escape(label)}</span></div>'


def chip(verdict: str) -> str:
    """Return a coloured label, `accepted` or `rejected`."""
    return f'<span class="chip {verdict}">{verdict}</span>'
