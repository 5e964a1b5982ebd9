"""The HTML report of an evaluation: pure functions from records and images to the page of `templates/comparison.html`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

from fluoro_reg.evaluation.comparison import GROSS_MM, Group, MethodSummary, find_groups, summarise_methods
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.page import card, chip, figure_html, read_template, style_sheet, text_row
from fluoro_reg.evaluation.report.plots import cumulative_plot, group_by_method, initial_error_plot, time_plot
from fluoro_reg.evaluation.report.table import comparison_table
from fluoro_reg.evaluation.report.worst_cases import WorstCase
from fluoro_reg.evaluation.run_folder import Run

MAXIMUM_LISTED_FAILURES = 50


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """The content of the report: the run, its records (not empty) and the worst cases of each method."""

    run: Run
    records: Sequence[EvaluationRecord]
    worst_cases: Mapping[str, Sequence[WorstCase]]


def comparison_html(report: ComparisonReport) -> str:
    """Return the report as an HTML page."""
    records, methods = report.records, group_by_method(report.records)
    summaries = summarise_methods(records)
    single, crossed = find_groups(records)
    registration = report.run.settings["registration"]
    return Template(read_template(__package__, "comparison.html")).substitute(
        style=style_sheet(),
        headline=escape(headline(records)),
        problems=_warnings(report),
        cards=_cards(records, summaries),
        overall=comparison_table(summaries),
        cumulative=cumulative_plot(methods),
        starts=initial_error_plot(methods),
        times=time_plot(methods),
        single="".join(_group(group, records) for group in single),
        crossed=_crossed(crossed, records),
        worst="".join(_worst_cases(method, cases) for method, cases in report.worst_cases.items()),
        failures=_failures(records),
        seed=registration["seed"],
        machines="".join(_machine(machine) for machine in report.run.machines),
        settings=escape(_pretty(registration)),
        intensity=escape(report.run.settings["intensity"] or "as set by each case"),
        methods="".join(_method(name, settings) for name, settings in report.run.methods.items()),
    )


def headline(records: Sequence[EvaluationRecord]) -> str:
    """Return the numbers of methods, cases and CTs as text."""
    methods, cases = {record.method for record in records}, {record.case for record in records}
    cts = {record.ct for record in records if record.ct}
    return f"{_count(len(methods), 'method')} on {_count(len(cases), 'case')} of {_count(len(cts), 'CT')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _warnings(report: ComparisonReport) -> str:
    """Return a list of warnings about missing records and failures, which affect the tables."""
    sentences = []
    for method in report.run.methods:
        available = sum(record.method == method for record in report.records)
        if available < len(report.run.cases):
            sentences.append(f"{method} has {available} of {len(report.run.cases)} cases: the run is not complete.")
    failed = sum(record.failed for record in report.records)
    if failed:
        sentences.append(f"{_count(failed, 'registration')} failed with an error; each counts as a case without a pose.")
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="problems">{items}</ul>' if items else ""


def _cards(records: Sequence[EvaluationRecord], summaries: Sequence[MethodSummary]) -> str:
    most_successful = max(summaries, key=lambda summary: summary.success[1])
    most_accurate = min(summaries, key=lambda summary: summary.mtre[0].value)
    dangerous = sum(summary.verdicts.gross_accepted for summary in summaries)
    danger = f'<span class="danger">{dangerous}</span>' if dangerous else "0"
    return "".join(
        (
            card(str(len(records)), "registrations"),
            card(
                f"{100 * most_successful.success[1]:.0f} <small>%</small>", f"within 2 mm, maximum ({most_successful.method})"
            ),
            card(f"{most_accurate.mtre[0].value:.2f} <small>mm</small>", f"median mTRE, minimum ({most_accurate.method})"),
            card(danger, f"accepted with an error of more than {GROSS_MM:g} mm, all methods"),
        )
    )


def _group(group: Group, records: Sequence[EvaluationRecord]) -> str:
    own = group.select(records)
    cases = len({record.case for record in own})
    heading = f'<h3>{escape(group.title)} <small class="soft">{_count(cases, "case")}</small></h3>'
    return f"{heading}{comparison_table(summarise_methods(own))}"


def _crossed(crossed: Sequence[Group], records: Sequence[EvaluationRecord]) -> str:
    if not crossed:
        return ""
    tables = "".join(_group(group, records) for group in crossed)
    return f"<details><summary>By CT, initial mTRE and variant together: {len(crossed)} groups</summary>{tables}</details>"


def _worst_cases(method: str, cases: Sequence[WorstCase]) -> str:
    return f'<h3>{escape(method)}</h3><div class="stills worst">{"".join(map(_worst_case, cases))}</div>'


def _worst_case(case: WorstCase) -> str:
    record = case.record
    error = record.trial.mtre_mm
    properties = ", ".join(part for part in (record.ct, record.variant) if part)
    initial = "" if record.start_mtre_mm is None else f" (initially {record.start_mtre_mm:.1f} mm)"
    result = (f"mTRE {error:.1f} mm" if record.camera_from_patient else "no pose") + initial
    verdict = chip("accepted" if record.accepted else "rejected")
    danger = " danger" if record.accepted and error > GROSS_MM else ""
    layers = [("X-ray", case.xray), ("the true pose", case.truth), ("the estimated pose", case.estimated)]
    image = figure_html([(name, webp) for name, webp in layers if webp], record.case, f"{properties}. {record.reason}")
    note = f'<p class="soft">{escape(case.missing)}</p>' if case.missing else ""
    return f'<div><p class="verdict{danger}">{verdict} {escape(result)}</p>{image}{note}</div>'


def _failures(records: Sequence[EvaluationRecord]) -> str:
    failed = [record for record in records if record.failed]
    if not failed:
        return ""
    rows = "".join(text_row([record.case, record.method, record.reason]) for record in failed[:MAXIMUM_LISTED_FAILURES])
    remaining = len(failed) - MAXIMUM_LISTED_FAILURES
    more = f'<p class="soft">and {remaining} more, in records.csv</p>' if remaining > 0 else ""
    head = '<tr><th class="text">case</th><th class="text">method</th><th class="text">error</th></tr>'
    return f'<h2>Failures</h2><div class="panel scroll"><table>{head}{rows}</table></div>{more}'


def _machine(machine: Mapping[str, str]) -> str:
    rows = "".join(text_row([name, value]) for name, value in machine.items())
    return f'<div class="panel"><table>{rows}</table></div>'


def _method(name: str, settings: Mapping[str, Any]) -> str:
    description = escape(str(settings.get("description", "")))
    return f"<details><summary>{escape(name)}</summary><p>{description}</p><pre>{escape(_pretty(settings))}</pre></details>"


def _pretty(settings: Mapping[str, Any]) -> str:
    """Format settings for reading, with each section on separate lines."""
    lines = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines += [f"{key}:", *(f"  {name}: {json.dumps(item)}" for name, item in value.items())]
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            lines += [f"{key}:", *(f"  - {json.dumps(item)}" for item in value)]
        else:
            lines.append(f"{key}: {value if isinstance(value, str) else json.dumps(value)}")
    return "\n".join(lines)
