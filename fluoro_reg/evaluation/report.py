"""The demo's report: one HTML file that needs nothing else, no network and no viewer, and looks right in light and in dark.

Pure functions from records to text; the page's words are in `templates/report.html`. Whatever comes from outside (reasons,
configuration, versions) is escaped, and pictures are data URIs.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from fluoro_reg.evaluation.demo import FrameRecord
from fluoro_reg.evaluation.demo_pictures import DemoPictures
from fluoro_reg.evaluation.report_plots import error_plot, latency_plot


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What one needs to know to run it again. `configuration` is YAML, `versions` includes the machine."""

    commands: str
    configuration: str
    versions: Mapping[str, str]
    landmarks: int
    seed: int


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything that the report shows."""

    records: Sequence[FrameRecord]
    summary: Mapping[str, Any]
    shortcomings: Sequence[str]
    pictures: DemoPictures
    circumstances: Circumstances


def demo_html(report: DemoReport) -> str:
    """The whole page."""
    about = report.circumstances
    return Template(_template("report.html")).substitute(
        style=_template("report.css"),
        script=_template("report.js"),
        headline=escape(headline(report)),
        problems=_problems(report.shortcomings),
        cards=_cards(report),
        first_xray=_uri(report.pictures.frames[0].xray),
        strip="".join(_cell(record) for record in report.records),
        stills=_stills(report),
        landmarks=about.landmarks,
        seed=about.seed,
        device=escape(f"computed on the {report.summary['device'].upper()}"),
        error_plot=error_plot(report.records),
        latency_plot=latency_plot(report.records),
        frames=len(report.records),
        commands=escape(about.commands),
        configuration=escape(about.configuration),
        versions="".join(_row([name, version]) for name, version in about.versions.items()),
        rows="".join(_frame_row(record) for record in report.records),
        frames_json=_frames_json(report),
    )


def headline(report: DemoReport) -> str:
    """The verdict in one line."""
    if report.shortcomings:
        return "The demo did not do what it should"
    accepted, frames = report.summary["accepted"], report.summary["frames"]
    blank = sum(record.blank for record in report.records)
    return f"The patient is on tf2: {accepted} of {frames} frames located, {blank} blank ones turned away"


def _problems(shortcomings: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in shortcomings)
    return f'<ul class="problems">{items}</ul>' if items else ""


def _cards(report: DemoReport) -> str:
    s, blank = report.summary, [record for record in report.records if record.blank]
    cards = {
        "median true 3-D error (mTRE)": _quantity(s["median_mtre_mm"], "mm", digits=2),
        "worst accepted frame": _quantity(s["max_mtre_mm"], "mm", digits=2),
        "X-rays of the patient accepted": _of(s["accepted"], s["frames"] - len(blank)),
        "blank frames rejected": _of(sum(not record.accepted for record in blank), len(blank)),
        "image to transform, median": _quantity(s["median_latency_s"], "ms", scale=1000),
        "accepted poses heard on /tf": _of(s["tf_received"], s["accepted"]),
    }
    return "".join(f'<div class="card"><b>{value}</b><span>{label}</span></div>' for label, value in cards.items())


def _cell(record: FrameRecord) -> str:
    name = f"frame {record.index}, {_word(record)}"
    return f'<button class="{_word(record)}" aria-label="{name}" title="{name}"></button>'


def _stills(report: DemoReport) -> str:
    pictures, first = report.pictures, report.records[0]
    xray, edges = pictures.frames[0].xray, pictures.frames[0].edges
    figures = [_figure(xray, pictures.start_edges, "The start", f"{pictures.start_mtre_mm:.1f} mm from the truth")]
    if first.errors is not None:
        figures.append(_figure(xray, edges, "The pose found", f"{first.errors.mtre_mm:.2f} mm from the truth"))
    rejected = next((record for record in report.records if not record.accepted), None)
    if rejected is not None:
        picture = pictures.frames[rejected.index].xray
        figures.append(_figure(picture, None, f"Frame {rejected.index}, rejected", rejected.reason))
    return "".join(figures)


def _figure(xray: bytes, edges: bytes | None, title: str, text: str) -> str:
    layer = f'<img alt="bone edges" src="{_uri(edges)}">' if edges else ""
    caption = f"<figcaption><b>{escape(title)}:</b> {escape(text)}</figcaption>"
    return f'<figure><div class="layers"><img alt="X-ray" src="{_uri(xray)}">{layer}</div>{caption}</figure>'


def _frame_row(record: FrameRecord) -> str:
    word, numbers = _word(record), "".join(f"<td>{value}</td>" for value in _numbers(record).values())
    verdict = f'<td class="text"><span class="chip {word}">{word}</span></td>'
    return f'<tr><td>{record.index}</td>{verdict}{numbers}<td class="text">{escape(record.reason)}</td></tr>'


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f'<td class="text">{escape(cell)}</td>' for cell in cells) + "</tr>"


def _frames_json(report: DemoReport) -> str:
    """What the viewer shows; a `<` in it could end the script."""
    pairs = zip(report.records, report.pictures.frames, strict=True)
    frames = [
        {
            "xray": _uri(picture.xray),
            "edges": None if picture.edges is None else _uri(picture.edges),
            "verdict": _word(record),
            "reason": record.reason,
            "published": _published(record),
            **_numbers(record),
        }
        for record, picture in pairs
    ]
    return json.dumps(frames).replace("<", "\\u003c")


def _published(record: FrameRecord) -> str:
    """The transform as it was heard, or that there is none."""
    seconds, nanoseconds = divmod(record.stamp_ns, 1_000_000_000)
    stamp = f"stamp {seconds}.{nanoseconds:09d}"
    if record.camera_from_patient is None:
        return f"{stamp}\nnothing was published"
    rows = record.camera_from_patient.matrix()[:3].tolist()
    matrix = "\n".join(" ".join(f"{value:8.4f}" for value in row[:3]) + f" {row[3]:9.2f}" for row in rows)
    return f"{stamp}\ncamera_from_patient, mm\n{matrix}"


def _numbers(record: FrameRecord) -> dict[str, str]:
    """mm, degrees, ms; empty where there is nothing to tell."""
    e = record.errors
    errors = (None,) * 4 if e is None else (e.mtre_mm, e.in_plane_mm, e.depth_mm, e.rotation_deg)
    latency = "" if record.latency_s is None else f"{1000 * record.latency_s:.0f}"
    values = dict(zip(("error", "plane", "depth", "turn", "similarity"), (*errors, record.similarity), strict=True))
    return {name: "" if value is None else f"{value:.2f}" for name, value in values.items()} | {"latency": latency}


def _word(record: FrameRecord) -> str:
    return "accepted" if record.accepted else "rejected"


def _quantity(value: float | None, unit: str, scale: float = 1.0, digits: int = 0) -> str:
    return "none" if value is None else f"{scale * value:.{digits}f} <small>{unit}</small>"


def _of(count: int, total: int) -> str:
    return f"{count} <small>of {total}</small>"


def _uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def _template(name: str) -> str:
    return (files("fluoro_reg.evaluation") / "templates" / name).read_text(encoding="utf-8")
