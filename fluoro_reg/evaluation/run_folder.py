"""The folder of an evaluation, and the check whether an evaluation in it may be continued.

    run.json (settings, methods, cases with digests, machines)  records.jsonl  report.html  summary.csv  records.csv

An evaluation may be continued only if every existing record would be reproduced. Settings, seed, program version, the stages of
each method and the files of each case must therefore be unchanged. Methods and cases may be added, because they do not affect
other records.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fluoro_reg
from fluoro_reg.config import to_mapping
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.environment import processor, versions
from fluoro_reg.evaluation.plan import PlannedCase, case_digest
from fluoro_reg.evaluation.worker import WorkerSettings
from fluoro_reg.formats.json_file import read_json
from fluoro_reg.learned import check_similarity
from fluoro_reg.registration.method import Method
from fluoro_reg.regressor.checkpoint import check_regressor

PROGRAM = "fluoro-reg evaluate"
RUN, RECORDS = "run.json", "records.jsonl"
REPORT, SUMMARY, TABLE = "report.html", "summary.csv", "records.csv"
_WRITTEN = {RUN, RECORDS, REPORT, SUMMARY, TABLE, f".{RUN}"}


@dataclass(frozen=True, slots=True)
class Run:
    """The content of run.json.

    `cases` maps names to (folder relative to that of run.json, digest), `methods` maps names to their settings, and `machines`
    lists the machines that computed records, each once.
    """

    settings: dict[str, Any]
    methods: dict[str, Any]
    cases: dict[str, tuple[str, str]]
    machines: tuple[dict[str, str], ...]

    @staticmethod
    def read(folder: Path) -> "Run | None":
        """Return the run of a folder, or None if there is none yet.

        Raises:
            InputError: The folder contains other files, or run.json is malformed.
        """
        if not folder.exists():
            return None
        if not folder.is_dir():
            raise InputError(f"{folder.name} is a file; give a folder to write")
        other_files = sorted(path.name for path in folder.iterdir() if path.name not in _WRITTEN)
        exists = (folder / RUN).is_file()
        if other_files or (not exists and (folder / RECORDS).exists()):
            found = other_files[0] if other_files else f"{RECORDS} without {RUN}"
            raise InputError(f"{folder.name} does not contain an evaluation but {found}; give a new or empty folder")
        if not exists:
            return None
        content = read_json(folder / RUN)
        try:
            cases = {name: (str(path), str(digest)) for name, (path, digest) in content["cases"].items()}
            if content["program"] != PROGRAM:
                raise KeyError("program")
            return Run(dict(content["settings"]), dict(content["methods"]), cases, tuple(content["machines"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{RUN} in {folder.name} was not written by {PROGRAM}; give a new or empty folder") from error

    def write(self, folder: Path) -> None:
        """Write run.json atomically.

        Raises:
            InputError: It cannot be written.
        """
        text = json.dumps({"program": PROGRAM, **asdict(self)}, indent=1) + "\n"
        try:
            (folder / f".{RUN}").write_text(text, encoding="utf-8")
            (folder / f".{RUN}").replace(folder / RUN)
        except OSError as error:
            raise InputError(f"cannot write into {folder.name}: {error.strerror}; choose another folder") from error

    def with_machine(self, engine: str) -> "Run":
        """Return the run with this machine added to its machines."""
        this_machine = {**versions(), "processor": processor(), "computed by": engine}
        return replace(self, machines=(*self.machines, *([] if this_machine in self.machines else [this_machine])))

    def case_folder(self, folder: Path, name: str) -> Path:
        """Return the folder of a case at the time when it was added to the run."""
        return folder / self.cases[name][0]


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Create the folder and lock it against other runs; the lock is released even if the process is killed.

    Raises:
        InputError: The folder cannot be created, or another process uses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except FileExistsError as error:
        raise InputError(f"{folder.name} is a file; give a folder to write") from error
    except OSError as error:
        raise InputError(f"cannot write into {folder.name}: {error.strerror}; choose another folder") from error
    try:
        _lock(descriptor, folder.name)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"another evaluation is running in {name}; wait until it ends or give another --out") from error


def requested_run(folder: Path, cases: Sequence[PlannedCase], methods: Sequence[Method], worker: WorkerSettings) -> Run:
    """Return the run that the given cases, methods and settings describe.

    Raises:
        InputError: A case or the weights cannot be read.
    """
    registration = {key: value for key, value in to_mapping(worker.registration).items() if key != "method"}
    registration["model"] = _weights(worker.registration.model, check_regressor)
    learned = to_mapping(worker.registration.learned)
    registration["learned"] = {kind: _weights(path, partial(check_similarity, kind=kind)) for kind, path in learned.items()}
    settings = {
        "version": fluoro_reg.__version__,
        "intensity": None if worker.intensity is None else worker.intensity.value,
        "registration": registration,
    }
    folders = {case.name: Path(os.path.relpath(case.folder, folder.resolve())).as_posix() for case in cases}
    return Run(
        settings=_as_json(settings),
        methods={method.name: _as_json(_described(method)) for method in methods},
        cases={case.name: (folders[case.name], case_digest(case)) for case in cases},
        machines=(),
    )


def resume_run(before: Run | None, now: Run, folder: Path) -> Run:
    """Return the existing run with the methods and cases of the new one added.

    Raises:
        InputError: The settings, a method or a case of the existing run have changed.
    """
    if before is None:
        return now
    changed = _difference(before.settings, now.settings)
    if changed:
        key, old, new = changed
        raise InputError(f"{folder.name} was computed with {key} {old}, now it is {new}; use the same value or another --out")
    for name in before.methods.keys() & now.methods.keys():
        if before.methods[name] != now.methods[name]:
            raise InputError(f"the method {name} has changed since {folder.name} was computed; give another --out")
    for name in sorted(before.cases.keys() & now.cases.keys()):
        if before.cases[name][1] != now.cases[name][1]:
            raise InputError(f"the case {name} has changed since {folder.name} was computed; give another --out")
    return Run(now.settings, {**before.methods, **now.methods}, {**before.cases, **now.cases}, before.machines)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> tuple[str, Any, Any] | None:
    """Return the first key (dotted) whose values differ, with both values, or None."""
    for key in {**old, **new}:
        one, other = old.get(key), new.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            deeper = _difference(one, other, f"{prefix}{key}.")
            if deeper:
                return deeper
        elif one != other:
            return f"{prefix}{key}".removeprefix("registration."), one, other
    return None


def _weights(model: str, check: Callable[[str], Any]) -> str:
    """Return name and SHA-256 of a weights file: the path is private, and a file of the same name may be trained again."""
    if not model:
        return ""
    check(model)
    return f"{Path(model).name}, SHA-256 {hashlib.sha256(Path(model).read_bytes()).hexdigest()[:16]}"


def _described(value: Any) -> Any:
    """Return a dataclass as nested dictionaries with class names, since two similarities may have equal settings."""
    if is_dataclass(value):
        return {"type": type(value).__name__, **{field.name: _described(getattr(value, field.name)) for field in fields(value)}}
    return [_described(item) for item in value] if isinstance(value, (list, tuple)) else value


def _as_json(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content as JSON reproduces it, with lists instead of tuples."""
    result: dict[str, Any] = json.loads(json.dumps(content))
    return result
