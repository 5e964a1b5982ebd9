"""The demo's report: pure functions from records to the page whose words are in `templates/report.html`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

from fluoro_reg.demo.assessment import FrameRecord
from fluoro_reg.demo.pictures import DemoPictures
from fluoro_reg.demo.plots import error_plot, latency_plot
from fluoro_reg.evaluation.report.page import card, chip, data_uri, figure, style_sheet, template, text_row


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
    return Template(template(__package__, "report.html")).substitute(
        style=style_sheet(),
        script=template(__package__, "report.js"),
        headline=escape(headline(report)),
        problems=_problems(report.shortcomings),
        cards=_cards(report),
        first_xray=data_uri(report.pictures.frames[0].xray),
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
        versions="".join(text_row([name, version]) for name, version in about.versions.items()),
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
    return "".join(card(value, label) for label, value in cards.items())


def _cell(record: FrameRecord) -> str:
    name = f"frame {record.index}, {_word(record)}"
    return f'<button class="{_word(record)}" aria-label="{name}" title="{name}"></button>'


def _stills(report: DemoReport) -> str:
    pictures, first = report.pictures, report.records[0]
    xray, edges, start_edges = (pictures.frames[0].xray, pictures.frames[0].edges, pictures.start_edges)
    start = [("X-ray", xray), ("bone edges", start_edges)]
    figures = [figure(start, "The start", pictures.start_words)]
    if first.errors is not None:
        found = [("X-ray", xray), *([("bone edges", edges)] if edges else [])]
        figures.append(figure(found, "The pose found", f"{first.errors.mtre_mm:.2f} mm from the truth"))
    rejected = next((record for record in report.records if not record.accepted), None)
    if rejected is not None:
        picture = pictures.frames[rejected.index].xray
        figures.append(figure([("X-ray", picture)], f"Frame {rejected.index}, rejected", rejected.reason))
    return "".join(figures)


def _frame_row(record: FrameRecord) -> str:
    word, numbers = _word(record), "".join(f"<td>{value}</td>" for value in _numbers(record).values())
    verdict = f'<td class="text">{chip(word)}</td>'
    return f'<tr><td>{record.index}</td>{verdict}{numbers}<td class="text">{escape(record.reason)}</td></tr>'


def _frames_json(report: DemoReport) -> str:
    """What the viewer shows; a `<` in it could end the script."""
    pairs = zip(report.records, report.pictures.frames, strict=True)
    frames = [
        {
            "xray": data_uri(picture.xray),
            "edges": None if picture.edges is None else data_uri(picture.edges),
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
