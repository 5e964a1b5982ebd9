"""An evaluation's report: pure functions from records and pictures to the page worded in `templates/comparison.html`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

from fluoro_reg.evaluation.comparison import GROSS_MM, Group, MethodSummary, compare, groups
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.page import card, chip, figure, style_sheet, template, text_row
from fluoro_reg.evaluation.report.plots import by_method, cumulative_plot, start_plot, time_plot
from fluoro_reg.evaluation.report.table import comparison_table
from fluoro_reg.evaluation.report.worst_cases import WorstCase
from fluoro_reg.evaluation.run_folder import Run

LISTED_FAILURES = 50


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Everything that the report shows; `records` is not empty."""

    run: Run
    records: Sequence[EvaluationRecord]
    pictures: Mapping[str, Sequence[WorstCase]]


def comparison_html(report: ComparisonReport) -> str:
    """The whole page."""
    records, methods = report.records, by_method(report.records)
    lines = compare(records)
    single, crossed = groups(records)
    registration = report.run.settings["registration"]
    return Template(template(__package__, "comparison.html")).substitute(
        style=style_sheet(),
        headline=escape(headline(records)),
        problems=_problems(report),
        cards=_cards(records, lines),
        overall=comparison_table(lines),
        cumulative=cumulative_plot(methods),
        starts=start_plot(methods),
        times=time_plot(methods),
        single="".join(_group(group, records) for group in single),
        crossed=_crossed(crossed, records),
        worst="".join(_worst(method, cases) for method, cases in report.pictures.items()),
        failures=_failures(records),
        seed=registration["seed"],
        machines="".join(_machine(machine) for machine in report.run.machines),
        settings=escape(_pretty(registration)),
        intensity=escape(report.run.settings["intensity"] or "as each case says"),
        methods="".join(_method(name, settings) for name, settings in report.run.methods.items()),
    )


def headline(records: Sequence[EvaluationRecord]) -> str:
    """What was compared, in one line."""
    methods, cases = {record.method for record in records}, {record.case for record in records}
    cts = {record.ct for record in records if record.ct}
    return f"{_count(len(methods), 'method')} on {_count(len(cases), 'case')} of {_count(len(cts), 'CT')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _problems(report: ComparisonReport) -> str:
    """What makes the tables other than they seem."""
    sentences = []
    for method in report.run.methods:
        there = sum(record.method == method for record in report.records)
        if there < len(report.run.cases):
            sentences.append(f"{method} has {there} of {len(report.run.cases)} cases: the run has not ended yet.")
    failed = sum(record.failed for record in report.records)
    if failed:
        sentences.append(f"{_count(failed, 'registration')} failed with an error; each counts as a case without a pose.")
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="problems">{items}</ul>' if items else ""


def _cards(records: Sequence[EvaluationRecord], lines: Sequence[MethodSummary]) -> str:
    best, quickest = max(lines, key=lambda line: line.success[1]), min(lines, key=lambda line: line.mtre[0].value)
    dangerous = sum(line.verdicts.gross_accepted for line in lines)
    danger = f'<span class="danger">{dangerous}</span>' if dangerous else "0"
    return "".join(
        (
            card(str(len(records)), "registrations"),
            card(f"{100 * best.success[1]:.0f} <small>%</small>", f"within 2 mm, by {best.method}, the most"),
            card(f"{quickest.mtre[0].value:.2f} <small>mm</small>", f"median mTRE, by {quickest.method}, the least"),
            card(danger, f"accepted although more than {GROSS_MM:g} mm off, all methods"),
        )
    )


def _group(group: Group, records: Sequence[EvaluationRecord]) -> str:
    own = group.of(records)
    cases = len({record.case for record in own})
    heading = f'<h3>{escape(group.title)} <small class="soft">{_count(cases, "case")}</small></h3>'
    return f"{heading}{comparison_table(compare(own))}"


def _crossed(crossed: Sequence[Group], records: Sequence[EvaluationRecord]) -> str:
    if not crossed:
        return ""
    tables = "".join(_group(group, records) for group in crossed)
    return f"<details><summary>CT, start and variant together: {len(crossed)} groups</summary>{tables}</details>"


def _worst(method: str, cases: Sequence[WorstCase]) -> str:
    return f'<h3>{escape(method)}</h3><div class="stills worst">{"".join(map(_worst_case, cases))}</div>'


def _worst_case(case: WorstCase) -> str:
    record = case.record
    error = record.trial.mtre_mm
    about = ", ".join(part for part in (record.ct, record.variant) if part)
    start = "" if record.start_mtre_mm is None else f" (start {record.start_mtre_mm:.1f})"
    found = (f"{error:.1f} mm off" if record.camera_from_patient else "no pose") + start
    verdict = chip("accepted" if record.accepted else "rejected")
    danger = " danger" if record.accepted and error > GROSS_MM else ""
    layers = [("X-ray", case.xray), ("the true pose", case.truth), ("the pose found", case.found)]
    picture = figure([(name, webp) for name, webp in layers if webp], record.case, f"{about}. {record.reason}")
    note = f'<p class="soft">{escape(case.missing)}</p>' if case.missing else ""
    return f'<div><p class="verdict{danger}">{verdict} {escape(found)}</p>{picture}{note}</div>'


def _failures(records: Sequence[EvaluationRecord]) -> str:
    failed = [record for record in records if record.failed]
    if not failed:
        return ""
    rows = "".join(text_row([record.case, record.method, record.reason]) for record in failed[:LISTED_FAILURES])
    more = (
        f'<p class="soft">and {len(failed) - LISTED_FAILURES} more, in records.csv</p>' if len(failed) > LISTED_FAILURES else ""
    )
    head = '<tr><th class="text">case</th><th class="text">method</th><th class="text">error</th></tr>'
    return f'<h2>Failures</h2><div class="panel scroll"><table>{head}{rows}</table></div>{more}'


def _machine(machine: Mapping[str, str]) -> str:
    rows = "".join(text_row([name, value]) for name, value in machine.items())
    return f'<div class="panel"><table>{rows}</table></div>'


def _method(name: str, settings: Mapping[str, Any]) -> str:
    about = escape(str(settings.get("description", "")))
    return f"<details><summary>{escape(name)}</summary><p>{about}</p><pre>{escape(_pretty(settings))}</pre></details>"


def _pretty(settings: Mapping[str, Any]) -> str:
    """Sections on lines of their own, values short."""
    lines = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines += [f"{key}:", *(f"  {name}: {json.dumps(item)}" for name, item in value.items())]
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            lines += [f"{key}:", *(f"  - {json.dumps(item)}" for item in value)]
        else:
            lines.append(f"{key}: {value if isinstance(value, str) else json.dumps(value)}")
    return "\n".join(lines)
