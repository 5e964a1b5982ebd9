"""`fluoro-reg evaluate`: register every case with every method, and report the errors. An interrupted run can be continued."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from fluoro_reg.cli.common_arguments import CommonArguments
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import IntensityChoice
from fluoro_reg.cli.output import Output
from fluoro_reg.cli.start_arguments import SIMILARITY_HELP, weights_by_similarity
from fluoro_reg.cli.typer_command import epilog_text
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.evaluation.comparison import MethodSummary
    from fluoro_reg.evaluation.engines.local import AbstractEngine
    from fluoro_reg.evaluation.runner import EvaluationResult

NAME = "evaluate"
EPILOG = epilog_text(
    [
        ("Simulate cases to evaluate", "fluoro-reg simulate --ct ct/ --out cases/ --cases 60"),
        (
            "Compare two methods, in two processes",
            "fluoro-reg evaluate --cases cases/ --methods lm-gradient-ncc,lm-patch-ncc \\\n--out comparison/ --workers 2",
        ),
        ("Write the report again", "fluoro-reg evaluate --out comparison/ --report-only"),
    ],
    "0 done; 1 no case could be registered; 2 unusable input.",
)


class Engine(str, enum.Enum):
    """What runs the registrations."""

    PROCESSES = "processes"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class EvaluationArguments:
    """Cases, methods and weights."""

    cases: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A case folder, or a folder that holds case folders, as written by simulate or export-dataset; repeatable.",
        ),
    ] = None
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "--methods",
            metavar="NAME[,NAME...]|all",
            help="Registration methods; repeatable. 'fluoro-reg methods' lists them. Default: lm-gradient-ncc.",
        ),
    ] = None
    intensity: Annotated[
        IntensityChoice | None,
        typer.Option(
            metavar="KIND",
            case_sensitive=False,
            help="Meaning of the pixel values, as for register. Default: what each case specifies.",
        ),
    ] = None
    model: Annotated[
        Path | None,
        typer.Option(metavar="W.safetensors", help="Weights from 'train regressor', for cases of the CT they were trained on."),
    ] = None
    similarity: Annotated[list[Path] | None, typer.Option(metavar="W.safetensors", help=SIMILARITY_HELP)] = None
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only the first N cases of each folder.")] = None


@dataclass(frozen=True, slots=True)
class ExecutionArguments:
    """Where to run the registrations, or not to run any."""

    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of processes, which share the cores. Default: 1, with all cores; with --engine ray, as many as the "
            "cluster has.",
        ),
    ] = None
    engine: Annotated[
        Engine,
        typer.Option(
            help="Run in processes on this machine, or on Ray: the cluster that RAY_ADDRESS names, else a local one. "
            "Default: processes.",
            show_default=False,
        ),
    ] = Engine.PROCESSES
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Register nothing; write the report and tables from the records in --out.")
    ] = False

    def make_engine(self) -> "AbstractEngine":
        """Return the engine; a single worker is this process."""
        from fluoro_reg.evaluation.engines.local import ProcessEngine, SerialEngine
        from fluoro_reg.evaluation.engines.ray_cluster import RayEngine

        if self.engine is Engine.RAY:
            return RayEngine(self.workers)
        return SerialEngine() if self.workers in (None, 1) else ProcessEngine(self.workers or 1)


def command(
    evaluation: EvaluationArguments,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for records, tables and report; an evaluation in it is continued."),
    ],
    execution: ExecutionArguments,
    common: CommonArguments,
) -> int:
    """Compare methods: register every case with every method, and measure the errors of the poses (mm).

    Writes records.jsonl (one record for each case and method, as soon as it is done), report.html, summary.csv and records.csv.
    A case that fails becomes a record with its error.

    To continue an interrupted evaluation, repeat the command. Cases and methods may be added; any other difference is an error.
    Settings (--config, --set) are those of register.
    """
    from fluoro_reg.evaluation.bodies import summarise_bodies
    from fluoro_reg.evaluation.comparison import summarise_methods
    from fluoro_reg.evaluation.report.files import summary_row
    from fluoro_reg.evaluation.runner import read_evaluation

    output, out = Output(common.json), out.resolve()
    if execution.report_only:
        _check_report_only(evaluation, common)
        evaluated = read_evaluation(out)
    else:
        evaluated = _evaluate(evaluation, out, execution, common, output)
    _write_report(evaluated, out, output)
    summaries = summarise_methods(evaluated.records)
    result: dict[str, Any] = {
        "out": out.name,
        "cases": len({record.case for record in evaluated.records}),
        "records": len(evaluated.records),
        "computed": evaluated.computed,
        "failed": sum(summary.failures for summary in summaries),
        "methods": [summary_row(summary) for summary in summaries],
    }
    if bodies := summarise_bodies(evaluated.records):
        result["bodies"] = bodies
    output.show(result, Group(_table(summaries), _bodies_table(bodies)) if bodies else _table(summaries))
    return ExitStatus.REJECTED if all(record.failed for record in evaluated.records) else ExitStatus.ACCEPTED


def _check_report_only(evaluation: EvaluationArguments, common: CommonArguments) -> None:
    given = [
        evaluation.cases,
        evaluation.method,
        evaluation.intensity,
        evaluation.model,
        evaluation.similarity,
        evaluation.limit,
        common.device,
        common.seed,
        common.config,
        common.assignments,
    ]
    if any(value not in (None, []) for value in given):
        raise InputError("--report-only uses the records in --out; leave cases, methods and settings out")


def _evaluate(
    evaluation: EvaluationArguments, out: Path, execution: ExecutionArguments, common: CommonArguments, output: Output
) -> "EvaluationResult":
    from fluoro_reg.evaluation.plan import plan_cases, select_methods
    from fluoro_reg.evaluation.runner import evaluate
    from fluoro_reg.evaluation.worker import WorkerSettings
    from fluoro_reg.registration import RegistrationOptions
    from fluoro_reg.xray.image import Intensity

    if not evaluation.cases:
        raise InputError("there are no cases to register; give their folder with --cases DIR")
    model = None if evaluation.model is None else str(evaluation.model.resolve())
    learned = weights_by_similarity([path.resolve() for path in evaluation.similarity or []])
    given = {"device": common.device, "seed": common.seed, "model": model, "learned": learned}
    options = common.settings(RegistrationOptions, given)
    methods = evaluation.method or [options.method]
    select_methods(methods, options)  # before the cases are read
    intensity = None if evaluation.intensity is None else Intensity(evaluation.intensity.value)
    with output.progress("registrations") as progress:
        cases = plan_cases(evaluation.cases, evaluation.limit)
        return evaluate(out, cases, methods, WorkerSettings(options, intensity), execution.make_engine(), progress.update)


def _write_report(evaluated: "EvaluationResult", out: Path, output: Output) -> None:
    from fluoro_reg.cli.output_files import write_file
    from fluoro_reg.evaluation.bodies import write_bodies_csv
    from fluoro_reg.evaluation.report.comparison import ComparisonReport, comparison_html
    from fluoro_reg.evaluation.report.files import write_records_csv, write_summary_csv
    from fluoro_reg.evaluation.report.plots import group_by_method
    from fluoro_reg.evaluation.report.worst_cases import render_worst_cases
    from fluoro_reg.evaluation.run_folder import REPORT, SUMMARY, TABLE

    run, records = evaluated.run, evaluated.records
    write_file(out / TABLE, lambda path: write_records_csv(path, records))
    write_file(out / SUMMARY, lambda path: write_summary_csv(path, records))
    if any(record.bodies for record in records):
        write_file(out / "bodies.csv", lambda path: write_bodies_csv(path, records))
    with output.progress("images of the report") as progress:
        images = render_worst_cases(group_by_method(records), lambda case: run.case_folder(out, case), progress.update)
    page = comparison_html(ComparisonReport(run, records, images))
    write_file(out / REPORT, lambda path: _write_text(path, page))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _table(summaries: "list[MethodSummary]") -> Table:
    from fluoro_reg.evaluation.comparison import GROSS_MM, SUCCESS_MM

    within = [f"<= {mm:g} mm" for mm in SUCCESS_MM]
    table = Table(
        "method", "n", *within, "median mTRE", f"> {GROSS_MM:g} mm accepted", "correct but rejected", "failed", "seconds"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for summary in summaries:
        counts = (summary.verdicts.gross_accepted, summary.verdicts.false_rejects, summary.failures)
        percentages = [f"{100 * fraction:.0f} %" for fraction in summary.success]
        values = [f"{summary.mtre[0].value:.2f} mm", *map(str, counts), f"{summary.seconds:.2f}"]
        table.add_row(summary.method, str(summary.records), *percentages, *values)
    return table


def _bodies_table(rows: list[dict[str, Any]]) -> Table:
    """One row for each method and body."""
    table = Table("method", "body", "n", "in plane <= 1 mm", "median in plane", "median mTRE", "accepted", "> 5 mm accepted")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        within, in_plane, mtre = row["in_plane_within_1_mm"], row["median_in_plane_mm"], row["median_mtre_mm"]
        errors = ("-", "-", "-") if within is None else (f"{100 * within:.0f} %", f"{in_plane:.2f} mm", f"{mtre:.2f} mm")
        counts = (str(row["accepted"]), str(row["gross_accepted"]))
        table.add_row(row["method"], row["body"], str(row["n"]), *errors, *counts)
    return table
