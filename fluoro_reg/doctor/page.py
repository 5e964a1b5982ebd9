"""The HTML report: one self-contained page in the style of the other reports."""

from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from fluoro_reg.doctor.examination import Examination, Fact, Finding, Picture, Section
from fluoro_reg.evaluation.report.page import data_uri, read_template, style_sheet, text_row


def doctor_html(examinations: Sequence[Examination], versions: Mapping[str, str]) -> str:
    """Return the report on all inputs as an HTML page."""
    return Template(read_template(__package__, "report.html")).substitute(
        headline=escape(headline(examinations)),
        style=style_sheet(),
        inputs="".join(_input(number, examination) for number, examination in enumerate(examinations, start=1)),
        versions="".join(text_row([name, version]) for name, version in versions.items()),
    )


def headline(examinations: Sequence[Examination]) -> str:
    """Return how many inputs are ready, in one line."""
    counts = {status: sum(one.status == status for one in examinations) for status in ("ready", "incomplete", "refused")}
    words = {"ready": "ready to register", "incomplete": "incomplete", "refused": "refused"}
    parts = [f"{count} {words[status]}" for status, count in counts.items() if count]
    return f"{len(examinations)} input{'s' if len(examinations) != 1 else ''}: {', '.join(parts)}"


def value_text(value: Any) -> str:
    """Return a value as text: numbers with six digits, rows of a matrix on separate lines."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{item} x {key}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        lines = any(isinstance(item, (list, tuple, str)) for item in value)
        return ("\n" if lines else ", ").join(value_text(item) for item in value) or "none"
    return "unknown" if value is None else str(value)


def _input(number: int, examination: Examination) -> str:
    heading = f"<h2>Input {number}: {escape(examination.kind)}{_chip(examination.status)}</h2>"
    findings = (
        "".join(_finding(finding) for finding in examination.findings) or "<li><span></span><p>Nothing to report.</p></li>"
    )
    pictures = "".join(_picture(picture) for picture in examination.pictures)
    shown = f'<div class="pictures">{pictures}</div>' if pictures else ""
    facts = "".join(_section(section) for section in examination.sections)
    return f'{heading}<div class="panel"><ul class="findings">{findings}</ul></div>{shown}<div class="facts">{facts}</div>'


def _chip(word: str) -> str:
    return f'<span class="chip {word}">{word}</span>'


def _finding(finding: Finding) -> str:
    give = f"<pre>{escape(finding.give)}</pre>" if finding.give else ""
    return f"<li>{_chip(finding.level.value)}<div><p>{escape(finding.sentence)}</p>{give}</div></li>"


def _picture(picture: Picture) -> str:
    caption = f"<figcaption><b>{escape(picture.title)}:</b> {escape(picture.text)}</figcaption>"
    return f'<figure><img alt="{escape(picture.title)}" src="{data_uri(picture.webp)}">{caption}</figure>'


def _section(section: Section) -> str:
    rows = "".join(_row(fact) for fact in section.facts)
    return f"<div><h3>{escape(section.title)}</h3><table>{rows}</table></div>" if rows else ""


def _row(fact: Fact) -> str:
    value = escape(f"{value_text(fact.value)} {fact.unit}".strip()).replace("\n", "<br>")
    cells = (
        f'<td class="text">{escape(fact.name)}</td><td class="value">{value}</td><td class="source">{escape(fact.source)}</td>'
    )
    return f"<tr>{cells}</tr>"
