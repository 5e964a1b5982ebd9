"""`fluoro-reg doctor`: report what a registration would see in CTs, X-rays and bags, and what is missing."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from fluoro_reg.cli.common_arguments import JSON_HELP
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import SERIES_HELP
from fluoro_reg.cli.output import Output
from fluoro_reg.cli.output_files import check_writable, write_file
from fluoro_reg.cli.recording_arguments import RecordingArguments
from fluoro_reg.cli.typer_command import epilog_text

if TYPE_CHECKING:
    from fluoro_reg.doctor.examination import Examination

NAME = "doctor"
EPILOG = epilog_text(
    [
        ("Examine a CT and an X-ray", "fluoro-reg doctor ct/ xray.dcm"),
        ("Write the report that goes with a bug report", "fluoro-reg doctor ct/ bag_folder/ --out report.html"),
        ("Examine an X-ray with a camera, as JSON", "fluoro-reg doctor xray.png --camera camera.json --json"),
    ],
    "0 every input can be read; 1 some cannot (the others are reported); 2 none can.",
)
STYLES = {"ready": "green", "incomplete": "yellow", "refused": "red", "note": "dim", "warning": "yellow", "missing": "yellow"}
PACKAGES = ("torch", "numpy", "pydicom", "rosbags", "nibabel", "SimpleITK", "opencv-python-headless")


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="CTs, X-rays and bags: files, or folders, in which all are found."),
    ],
    recording: RecordingArguments,
    series: Annotated[str | None, typer.Option(metavar="S", help=SERIES_HELP)] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="F.html", help="Write the report, with pictures, as one self-contained HTML file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> int:
    """Report what a registration would see in CTs, X-rays and bags, where each number comes from, and what is missing.

    For a CT: its geometry, its range of HU, and warnings. For an X-ray: its camera, what a C-arm's header states, the polarity
    and how certain it is, field and saturation. For a bag: topics, rates, pairing of images with CameraInfo, QoS, frame_ids and
    distortion. For what is missing, the option or the line of camera.json to give.

    No name, identifier, date or file name is shown, so that the report can go with a bug report. Pictures are coarse, so that
    writing in them cannot be read. An input that cannot be read is reported in one sentence, and the others are still examined.
    """
    from fluoro_reg.doctor.examine import DoctorOptions, examine_paths
    from fluoro_reg.doctor.page import doctor_html, headline
    from fluoro_reg.evaluation.environment import versions

    output = Output(as_json)
    if out is not None:
        check_writable(out, (".html",))
    options = DoctorOptions(series, recording.read())
    with output.status("examining"):
        examinations = list(examine_paths(paths, options))
    installed = versions(PACKAGES)
    if out is not None:
        page = doctor_html(examinations, installed).encode()
        write_file(out, lambda file: _write_bytes(file, page))
    refused = [(number, one) for number, one in enumerate(examinations, start=1) if one.status == "refused"]
    for number, examination in refused:
        print(f"fluoro-reg: input {number}: {_reason(examination)}", file=sys.stderr)
    if len(refused) == len(examinations):
        return ExitStatus.UNUSABLE
    content = {
        "headline": headline(examinations),
        "inputs": [examination.to_json(number) for number, examination in enumerate(examinations, start=1)],
        "versions": installed,
    }
    output.show(content, Group(*(_panel(number, one) for number, one in enumerate(examinations, start=1))))
    return ExitStatus.REJECTED if refused else ExitStatus.ACCEPTED


def _write_bytes(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _reason(examination: "Examination") -> str:
    """The sentence of the finding for which an input is refused, on one line."""
    return next(" ".join(finding.sentence.split()) for finding in examination.findings if finding.level.value == "refused")


def _panel(number: int, examination: "Examination") -> Group:
    """Findings first, then facts with their sources."""
    from fluoro_reg.doctor.page import value_text

    style = STYLES[examination.status]
    title = f"\n[bold]input {number}: {escape(examination.kind)}[/bold]  [{style}]{examination.status}[/{style}]"
    findings, facts = (Table(show_header=False, box=None, padding=(0, 2, 0, 2)) for _ in range(2))
    for finding in examination.findings:
        level, text = finding.level.value, finding.sentence + (f"\n{finding.give}" if finding.give else "")
        findings.add_row(f"[{STYLES[level]}]{level}[/{STYLES[level]}]", escape(text))
    for section in examination.sections:
        facts.add_row(f"[bold]{escape(section.title)}[/bold]")
        for fact in section.facts:
            value = f"{value_text(fact.value)} {fact.unit}".strip()
            facts.add_row(escape(fact.name), escape(value), f"[dim]{escape(fact.source)}[/dim]")
    return Group(title, findings, facts)
