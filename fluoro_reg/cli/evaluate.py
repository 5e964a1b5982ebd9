"""`fluoro-reg evaluate`: cases times methods to records, tables and one report; given again, it goes on where it stopped."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.inputs import SIMILARITY_HELP, learned_weights
from fluoro_reg.cli.options import Common, IntensityChoice
from fluoro_reg.cli.output import Output
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.evaluation.comparison import MethodSummary
    from fluoro_reg.evaluation.engines.local import AbstractEngine
    from fluoro_reg.evaluation.runner import Evaluated

NAME = "evaluate"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg simulate --ct ct_folder --out cases --cases 60\n\n"
    "$ fluoro-reg evaluate --cases cases --methods lm-gradient-ncc,lm-patch-ncc --out comparison --workers 2\n\n"
    "$ fluoro-reg evaluate --out comparison --report-only\n\n"
    "Exit status: 0 done; 1 no case could be registered at all; 2 unusable input."
)


class Engine(str, enum.Enum):
    """Who computes."""

    PROCESSES = "processes"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class WhatOptions:
    """Cases and methods."""

    cases: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Case folders, or folders of them, as simulate and export-dataset write; repeatable."),
    ] = None
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "--methods",
            metavar="NAME[,NAME...]|all",
            help="Named methods; repeatable. 'fluoro-reg methods' lists them. Default: lm-gradient-ncc.",
        ),
    ] = None
    intensity: Annotated[
        IntensityChoice | None,
        typer.Option(
            metavar="KIND", case_sensitive=False, help="What the pixels are, as for register. Default: as each case says."
        ),
    ] = None
    model: Annotated[
        Path | None,
        typer.Option(metavar="W.safetensors", help="Weights, as for register: for the cases of the CT they were trained on."),
    ] = None
    similarity: Annotated[list[Path] | None, typer.Option(metavar="W.safetensors", help=SIMILARITY_HELP)] = None
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N cases of each folder.")] = None


@dataclass(frozen=True, slots=True)
class HowOptions:
    """Who computes, or that nobody does."""

    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes, which share the cores. Default: 1, with all cores; with --engine ray as many as the cluster has.",
        ),
    ] = None
    engine: Annotated[
        Engine, typer.Option(help="processes of this machine, or ray: on the cluster that RAY_ADDRESS names, or a local one.")
    ] = Engine.PROCESSES
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Compute nothing: make report and tables again from the records in --out.")
    ] = False

    def build(self) -> "AbstractEngine":
        """The engine; one worker is this process itself."""
        from fluoro_reg.evaluation.engines.local import ProcessEngine, SerialEngine
        from fluoro_reg.evaluation.engines.ray import RayEngine

        if self.engine is Engine.RAY:
            return RayEngine(self.workers)
        return SerialEngine() if self.workers in (None, 1) else ProcessEngine(self.workers or 1)


def command(
    what: WhatOptions,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the records, tables and the report; an evaluation in it is gone on with."),
    ],
    how: HowOptions,
    common: Common,
) -> int:
    """Compare methods: register every case by every method, and hold the poses against the truth (mm).

    Writes records.jsonl (one record a case and method, at once), report.html, summary.csv and records.csv. An interrupted
    evaluation goes on by the same command; methods and cases may be added, anything else that differs is refused. A case that
    fails is a record with its error. Settings (--config, --set) are those of register.
    """
    from fluoro_reg.evaluation.comparison import compare
    from fluoro_reg.evaluation.report.files import summary_row
    from fluoro_reg.evaluation.runner import finished

    output, out = Output(common.json), out.resolve()
    if how.report_only:
        _check_report_only(what, common)
        evaluated = finished(out)
    else:
        evaluated = _evaluated(what, out, how, common, output)
    _write(evaluated, out, output)
    lines = compare(evaluated.records)
    answer: dict[str, Any] = {
        "out": out.name,
        "cases": len({record.case for record in evaluated.records}),
        "records": len(evaluated.records),
        "computed": evaluated.computed,
        "failed": sum(line.failures for line in lines),
        "methods": [summary_row(line) for line in lines],
    }
    output.show(answer, _table(lines))
    return ExitStatus.REJECTED if all(record.failed for record in evaluated.records) else ExitStatus.ACCEPTED


def _check_report_only(what: WhatOptions, common: Common) -> None:
    asked = [
        what.cases,
        what.method,
        what.intensity,
        what.model,
        what.similarity,
        what.limit,
        common.device,
        common.seed,
        common.config,
        common.assignments,
    ]
    if any(value not in (None, []) for value in asked):
        raise InputError("--report-only makes the report of what is in --out; leave cases, methods and settings out")


def _evaluated(what: WhatOptions, out: Path, how: HowOptions, common: Common, output: Output) -> "Evaluated":
    from fluoro_reg.evaluation.plan import chosen_methods, planned_cases
    from fluoro_reg.evaluation.runner import evaluate
    from fluoro_reg.evaluation.worker import Recipe
    from fluoro_reg.registration import RegistrationOptions
    from fluoro_reg.xray.image import Intensity

    if not what.cases:
        raise InputError("there are no cases to register; name their folder by --cases DIR")
    model = None if what.model is None else str(what.model.resolve())
    learned = learned_weights([path.resolve() for path in what.similarity or []])
    typed = {"device": common.device, "seed": common.seed, "model": model, "learned": learned}
    options = common.settings(RegistrationOptions, typed)
    methods = chosen_methods(what.method or [options.method], options)
    intensity = None if what.intensity is None else Intensity(what.intensity.value)
    with output.progress() as progress:
        task = progress.add_task("registrations", total=None)
        cases = planned_cases(what.cases, what.limit)
        return evaluate(
            out,
            cases,
            methods,
            Recipe(options, intensity),
            how.build(),
            lambda done, of: progress.update(task, completed=done, total=of),
        )


def _write(evaluated: "Evaluated", out: Path, output: Output) -> None:
    from fluoro_reg.cli.files import write_file
    from fluoro_reg.evaluation.report.comparison import ComparisonReport, comparison_html
    from fluoro_reg.evaluation.report.files import write_summary, write_table
    from fluoro_reg.evaluation.report.plots import by_method
    from fluoro_reg.evaluation.report.worst_cases import paint
    from fluoro_reg.evaluation.run_folder import REPORT, SUMMARY, TABLE

    run, records = evaluated.run, evaluated.records
    write_file(out / TABLE, lambda path: write_table(path, records))
    write_file(out / SUMMARY, lambda path: write_summary(path, records))
    with output.progress() as progress:
        task = progress.add_task("pictures of the report", total=None)
        pictures = paint(
            by_method(records),
            lambda case: run.case_folder(out, case),
            lambda done, of: progress.update(task, completed=done, total=of),
        )
    page = comparison_html(ComparisonReport(run, records, pictures))
    write_file(out / REPORT, lambda path: _write_text(path, page))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _table(lines: "list[MethodSummary]") -> Table:
    from fluoro_reg.evaluation.comparison import GROSS_MM, SUCCESS_MM

    within = [f"<= {mm:g} mm" for mm in SUCCESS_MM]
    table = Table(
        "method", *(["n", *within, "median mTRE", f"> {GROSS_MM:g} mm accepted", "rejected right", "failed", "seconds"])
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        counts = (line.verdicts.gross_accepted, line.verdicts.false_rejects, line.failures)
        shares = [f"{100 * share:.0f} %" for share in line.success]
        numbers = [f"{line.mtre[0].value:.2f} mm", *map(str, counts), f"{line.seconds:.2f}"]
        table.add_row(line.method, str(line.records), *shares, *numbers)
    return table
