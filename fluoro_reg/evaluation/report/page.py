"""Pieces of the reports' pages: HTML files that need nothing else, no network and no viewer, in light and in dark.

The words are in `templates/`. Whatever comes from outside (reasons, configuration, versions) is escaped, pictures are data
URIs.
"""

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files


def template(package: str, name: str) -> str:
    """The text of a file in the `templates/` of a package, such as `fluoro_reg.demo`."""
    return (files(package) / "templates" / name).read_text(encoding="utf-8")


def style_sheet() -> str:
    """The CSS of all reports."""
    return template(__package__, "report.css")


def data_uri(webp: bytes) -> str:
    """A WebP picture as the value of `src`."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def figure(layers: Sequence[tuple[str, bytes]], title: str, text: str) -> str:
    """Pictures of one size on top of each other, each with its name, above a caption."""
    images = "".join(f'<img alt="{escape(name)}" src="{data_uri(webp)}">' for name, webp in layers)
    caption = f"<figcaption><b>{escape(title)}:</b> {escape(text)}</figcaption>"
    return f'<figure><div class="layers">{images}</div>{caption}</figure>'


def text_row(cells: Sequence[str]) -> str:
    """A table's row of texts."""
    return "<tr>" + "".join(f'<td class="text">{escape(cell)}</td>' for cell in cells) + "</tr>"


def card(value: str, label: str) -> str:
    """A number to be seen from afar; `value` is HTML."""
    return f'<div class="card"><b>{value}</b><span>{escape(label)}</span></div>'


def chip(verdict: str) -> str:
    """`accepted` or `rejected`, in its colour."""
    return f'<span class="chip {verdict}">{verdict}</span>'
