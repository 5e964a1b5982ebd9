"""An evaluation: cases times methods to records, resumable at any moment.

Only what has no record yet is computed, and a record is on disk before the next is asked for. So a run that was killed goes on
where it was by the same command, and the records come out as if it had not been.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.engines.local import AbstractEngine
from fluoro_reg.evaluation.plan import PlannedCase, chosen_methods, jobs
from fluoro_reg.evaluation.records import EvaluationRecord, appending, read_records
from fluoro_reg.evaluation.run_folder import RECORDS, Run, continued, locked, wanted
from fluoro_reg.evaluation.worker import Recipe
from fluoro_reg.progress import Progress


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All records of a folder, in the order of cases and methods, and how many of them this start computed."""

    run: Run
    records: list[EvaluationRecord]
    computed: int


def evaluate(
    folder: Path,
    cases: Sequence[PlannedCase],
    methods: Sequence[str],
    recipe: Recipe,
    engine: AbstractEngine,
    progress: Progress = lambda done, of: None,
) -> Evaluated:
    """Computes what `folder` lacks of `cases` by `methods`; the run's seed is that of `recipe.options`.

    `progress` is called with (done, of), records that were there included.

    Raises:
        InputError: an unusable method or device, a folder of something else or of another run, or one that cannot be written.
    """
    chosen_methods(methods, recipe.options)
    engine.check(recipe)
    asked = wanted(folder, cases, methods, recipe)
    with locked(folder):
        run = continued(Run.read(folder), asked, folder)
        there = {record.key: record for record in read_records(folder / RECORDS)}
        planned = jobs(cases, methods, recipe.options.seed)
        missing = [job for job in planned if job.key not in there]
        if missing:
            run = run.computed_on(engine.describe())
        run.write(folder)
        done = len(planned) - len(missing)
        progress(done, len(planned))
        answers = closing(engine.map(recipe, missing)) if missing else nullcontext(())
        with appending(folder / RECORDS) as append, answers as records:
            for record in records:
                append(record)
                there[record.key] = record
                done += 1
                progress(done, len(planned))
    return Evaluated(run, _ordered(run, there.values()), len(missing))


def finished(folder: Path) -> Evaluated:
    """What a folder holds, nothing computed.

    Raises:
        InputError: it holds no evaluation.
    """
    run = Run.read(folder)
    if run is None:
        raise InputError(f"there is no evaluation in {folder.name}; make one with --cases and --method")
    records = read_records(folder / RECORDS)
    if not records:
        raise InputError(f"the evaluation in {folder.name} has no record yet; let it compute some")
    return Evaluated(run, _ordered(run, records), 0)


def _ordered(run: Run, records: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
    cases, methods = ({name: n for n, name in enumerate(names)} for names in (run.cases, run.methods))
    known = [record for record in records if record.case in cases and record.method in methods]
    return sorted(known, key=lambda record: (cases[record.case], methods[record.method]))
