"""The HTML report of the demo: pure functions from records and images to the page of `templates/report.html`."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

from fluoro_reg.demo.assessment import FrameRecord
from fluoro_reg.demo.pictures import DemoImages
from fluoro_reg.demo.plots import bodies_plot, error_plot, latency_plot
from fluoro_reg.evaluation.report.page import card, chip, data_uri, figure_html, read_template, style_sheet, text_row
from fluoro_reg.registration.bodies.overlay import colour_of


@dataclass(frozen=True, slots=True)
class RunDetails:
    """What is needed to repeat the run: commands, configuration (YAML), versions (with the machine) and seed.

    `landmarks` is the number of points at which errors are measured.
    """

    commands: str
    configuration: str
    versions: Mapping[str, str]
    landmarks: int
    seed: int


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The content of the report."""

    records: Sequence[FrameRecord]
    summary: Mapping[str, Any]
    failed_checks: Sequence[str]
    images: DemoImages
    details: RunDetails


def demo_html(report: DemoReport) -> str:
    """Return the report as an HTML page."""
    details = report.details
    return Template(read_template(__package__, "report.html")).substitute(
        style=style_sheet(),
        script=read_template(__package__, "report.js"),
        headline=escape(headline(report)),
        problems=_failed_checks(report.failed_checks),
        cards=_cards(report),
        first_xray=data_uri(report.images.frames[0].xray),
        strip="".join(_frame_button(record) for record in report.records),
        stills=_stills(report),
        landmarks=details.landmarks,
        seed=details.seed,
        device=escape(f"computed on the {report.summary['device'].upper()}"),
        bodies=body_section(report.records, report.summary),
        error_plot=error_plot(report.records),
        latency_plot=latency_plot(report.records),
        frames=len(report.records),
        commands=escape(details.commands),
        configuration=escape(details.configuration),
        versions="".join(text_row([name, version]) for name, version in details.versions.items()),
        rows="".join(_frame_row(record) for record in report.records),
        frames_json=_frames_json(report),
    )


def headline(report: DemoReport) -> str:
    """Return the result of the demo in one line."""
    if report.failed_checks:
        return "The demo failed its checks"
    accepted, frames = report.summary["accepted"], report.summary["frames"]
    blank = sum(record.blank for record in report.records)
    return f"The patient is on tf2: {accepted} of {frames} frames registered, {blank} blank frames rejected"


def _failed_checks(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="problems">{items}</ul>' if items else ""


def _cards(report: DemoReport) -> str:
    summary, blank = report.summary, [record for record in report.records if record.blank]
    cards = {
        "median 3-D error (mTRE)": _quantity(summary["median_mtre_mm"], "mm", digits=2),
        "maximum error of an accepted frame": _quantity(summary["max_mtre_mm"], "mm", digits=2),
        "X-rays of the patient accepted": _fraction(summary["accepted"], summary["frames"] - len(blank)),
        "blank frames rejected": _fraction(sum(not record.accepted for record in blank), len(blank)),
        "median latency, image to transform": _quantity(summary["median_latency_s"], "ms", scale=1000),
        "accepted poses received on /tf": _fraction(summary["tf_received"], summary["accepted"]),
    }
    return "".join(card(value, label) for label, value in cards.items())


def body_section(records: Sequence[FrameRecord], summary: Mapping[str, Any]) -> str:
    """Return the section about bones that move on their own; nothing where the CT is one body."""
    bodies = summary.get("bodies")
    if not bodies:
        return ""
    rows = ""
    for number, (name, body) in enumerate(bodies.items()):
        red, green, blue = colour_of(number)
        swatch = f'<span style="color:rgb({red},{green},{blue})">&#9632;&nbsp;</span>{escape(name)}'
        keys = ("median_in_plane_mm", "max_in_plane_mm", "median_mtre_mm")
        numbers = "".join(f"<td>{'' if body[key] is None else f'{body[key]:.2f}'}</td>" for key in keys)
        why = Counter(r.bodies[name].reason for r in records if not (r.blank or r.bodies[name].accepted))
        reason = escape(why.most_common(1)[0][0]) if why else ""
        accepted = f"<td>{body['accepted']}</td><td>{body['tf_received']}</td>"
        rows += f'<tr><td class="text">{swatch}</td>{accepted}{numbers}<td class="text">{reason}</td></tr>'
    return Template(read_template(__package__, "bodies.html")).substitute(
        rows=rows, plot=bodies_plot(records), frames=len(records)
    )


def _frame_button(record: FrameRecord) -> str:
    name = f"frame {record.index}, {_verdict(record)}"
    return f'<button class="{_verdict(record)}" aria-label="{name}" title="{name}"></button>'


def _stills(report: DemoReport) -> str:
    images, first = report.images, report.records[0]
    xray, edges = images.frames[0].xray, images.frames[0].edges
    initial = [("X-ray", xray), ("bone edges", images.initial_edges)]
    figures = [figure_html(initial, "Initial pose", images.initial_description)]
    if first.errors is not None:
        estimated = [("X-ray", xray), *([("bone edges", edges)] if edges else [])]
        figures.append(figure_html(estimated, "Estimated pose", f"mTRE {first.errors.mtre_mm:.2f} mm"))
    rejected = next((record for record in report.records if not record.accepted), None)
    if rejected is not None:
        image = images.frames[rejected.index].xray
        figures.append(figure_html([("X-ray", image)], f"Frame {rejected.index}, rejected", rejected.reason))
    return "".join(figures)


def _frame_row(record: FrameRecord) -> str:
    numbers = "".join(f"<td>{value}</td>" for value in _numbers(record).values())
    verdict = f'<td class="text">{chip(_verdict(record))}</td>'
    return f'<tr><td>{record.index}</td>{verdict}{numbers}<td class="text">{escape(record.reason)}</td></tr>'


def _frames_json(report: DemoReport) -> str:
    """Return the data of the frame viewer as JSON without `<`, which could end the script element."""
    pairs = zip(report.records, report.images.frames, strict=True)
    frames = [
        {
            "xray": data_uri(image.xray),
            "edges": None if image.edges is None else data_uri(image.edges),
            "verdict": _verdict(record),
            "reason": record.reason,
            "published": _published(record) + _published_bodies(record),
            **_numbers(record),
        }
        for record, image in pairs
    ]
    return json.dumps(frames).replace("<", "\\u003c")


def _published(record: FrameRecord) -> str:
    """Return the received transform as text, or a note that there is none."""
    seconds, nanoseconds = divmod(record.stamp_ns, 1_000_000_000)
    stamp = f"stamp {seconds}.{nanoseconds:09d}"
    if record.camera_from_patient is None:
        return f"{stamp}\nnothing was published"
    rows = record.camera_from_patient.matrix()[:3].tolist()
    matrix = "\n".join(" ".join(f"{value:8.4f}" for value in row[:3]) + f" {row[3]:9.2f}" for row in rows)
    return f"{stamp}\ncamera_from_patient, mm\n{matrix}"


def _published_bodies(record: FrameRecord) -> str:
    """Return a line for each body that moves on its own."""
    lines = []
    for name, body in record.bodies.items():
        error = "" if body.errors is None else f": {body.errors.in_plane_mm:.2f} mm in plane"
        lines.append(f"\n{name} {'accepted' if body.accepted else 'rejected'}{error}")
    return "".join(lines)


def _numbers(record: FrameRecord) -> dict[str, str]:
    """Return errors (mm, degrees), similarity and latency (ms) as text, empty if unknown."""
    e = record.errors
    errors = (None,) * 4 if e is None else (e.mtre_mm, e.in_plane_mm, e.depth_mm, e.rotation_deg)
    latency = "" if record.latency_s is None else f"{1000 * record.latency_s:.0f}"
    values = dict(zip(("error", "plane", "depth", "rotation", "similarity"), (*errors, record.similarity), strict=True))
    return {name: "" if value is None else f"{value:.2f}" for name, value in values.items()} | {"latency": latency}


def _verdict(record: FrameRecord) -> str:
    return "accepted" if record.accepted else "rejected"


def _quantity(value: float | None, unit: str, scale: float = 1.0, digits: int = 0) -> str:
    return "none" if value is None else f"{scale * value:.{digits}f} <small>{unit}</small>"


def _fraction(count: int, total: int) -> str:
    return f"{count} <small>of {total}</small>"
