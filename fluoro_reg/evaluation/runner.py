"""The runner of an evaluation, which registers every case with every method and can be resumed at any time.

Only missing records are computed, and each record is written to disk before the next one is requested. The same command
therefore continues a killed run, and the records are the same as without the interruption.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.engines.local import AbstractEngine
from fluoro_reg.evaluation.plan import PlannedCase, plan_jobs, select_methods
from fluoro_reg.evaluation.records import EvaluationRecord, read_records, record_appender
from fluoro_reg.evaluation.run_folder import RECORDS, Run, folder_lock, requested_run, resume_run
from fluoro_reg.evaluation.worker import WorkerSettings
from fluoro_reg.progress import Progress


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The run and all its records, in the order of cases and methods, and the number of records computed by this call."""

    run: Run
    records: list[EvaluationRecord]
    computed: int


def evaluate(
    folder: Path,
    cases: Sequence[PlannedCase],
    methods: Sequence[str],
    settings: WorkerSettings,
    engine: AbstractEngine,
    progress: Progress = lambda done, total: None,
) -> EvaluationResult:
    """Compute the records of `cases` with `methods` that are missing in `folder`.

    Args:
        folder: Folder of the evaluation, which is created or continued.
        cases: The cases to register.
        methods: Names or YAML files of the methods.
        settings: Options of all registrations, including the seed of the run.
        engine: Runs the registrations.
        progress: Called after each registration; existing records count as done.

    Raises:
        InputError: A method or the device is unusable, or the folder contains something else or another run or cannot
            be written.
    """
    chosen = select_methods(methods, settings.registration)
    settings = replace(settings, methods={method.name: method for method in chosen})
    engine.check(settings)
    requested = requested_run(folder, cases, chosen, settings)
    with folder_lock(folder):
        run = resume_run(Run.read(folder), requested, folder)
        existing = {record.key: record for record in read_records(folder / RECORDS)}
        planned = plan_jobs(cases, [method.name for method in chosen], settings.registration.seed)
        missing = [job for job in planned if job.key not in existing]
        if missing:
            run = run.with_machine(engine.describe())
        run.write(folder)
        done = len(planned) - len(missing)
        progress(done, len(planned))
        results = closing(engine.map(settings, missing)) if missing else nullcontext(())
        with record_appender(folder / RECORDS) as append, results as records:
            for record in records:
                append(record)
                existing[record.key] = record
                done += 1
                progress(done, len(planned))
    return EvaluationResult(run, _sort_records(run, existing.values()), len(missing))


def read_evaluation(folder: Path) -> EvaluationResult:
    """Read the evaluation of a folder without computing anything.

    Raises:
        InputError: The folder has no evaluation or no records.
    """
    run = Run.read(folder)
    if run is None:
        raise InputError(f"there is no evaluation in {folder.name}; run one with --cases and --method")
    records = read_records(folder / RECORDS)
    if not records:
        raise InputError(f"the evaluation in {folder.name} has no records yet; run it without --report-only")
    return EvaluationResult(run, _sort_records(run, records), 0)


def _sort_records(run: Run, records: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
    cases, methods = ({name: n for n, name in enumerate(names)} for names in (run.cases, run.methods))
    known = [record for record in records if record.case in cases and record.method in methods]
    return sorted(known, key=lambda record: (cases[record.case], methods[record.method]))
