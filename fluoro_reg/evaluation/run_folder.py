"""The folder of an evaluation: what is computed in it, and whether a start may go on with what another start began.

    run.json (settings, methods, cases with digests, machines)  records.jsonl  report.html  summary.csv  records.csv

Going on is right only where every record would come out the same. What was there before must be there unchanged: settings,
seed, the program's version, each method's stages, each case's files. Methods and cases may be added, for they change no other
record.
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
from fluoro_reg.evaluation.worker import Recipe
from fluoro_reg.formats.json_file import read_json
from fluoro_reg.learned import check_similarity
from fluoro_reg.registration.method import load_method
from fluoro_reg.regressor.checkpoint import check_regressor

PROGRAM = "fluoro-reg evaluate"
RUN, RECORDS = "run.json", "records.jsonl"
REPORT, SUMMARY, TABLE = "report.html", "summary.csv", "records.csv"
_WRITTEN = {RUN, RECORDS, REPORT, SUMMARY, TABLE, f".{RUN}"}


@dataclass(frozen=True, slots=True)
class Run:
    """What run.json holds. `cases` are (folder relative to run.json's, digest) by name, `methods` their settings, `machines`
    where records were computed, each once.
    """

    settings: dict[str, Any]
    methods: dict[str, Any]
    cases: dict[str, tuple[str, str]]
    machines: tuple[dict[str, str], ...]

    @staticmethod
    def read(folder: Path) -> "Run | None":
        """The run of a folder; None where there is none yet.

        Raises:
            InputError: the folder holds something else, or run.json is malformed.
        """
        if not folder.exists():
            return None
        if not folder.is_dir():
            raise InputError(f"{folder.name} is a file; give a folder to write")
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in _WRITTEN)
        begun = (folder / RUN).is_file()
        if strangers or (not begun and (folder / RECORDS).exists()):
            what = strangers[0] if strangers else f"{RECORDS} without {RUN}"
            raise InputError(f"{folder.name} holds something that is no evaluation's ({what}); give a new or empty folder")
        if not begun:
            return None
        content = read_json(folder / RUN)
        try:
            cases = {name: (str(place), str(digest)) for name, (place, digest) in content["cases"].items()}
            if content["program"] != PROGRAM:
                raise KeyError("program")
            return Run(dict(content["settings"]), dict(content["methods"]), cases, tuple(content["machines"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{RUN} in {folder.name} is not one of {PROGRAM}; give a new or empty folder") from error

    def write(self, folder: Path) -> None:
        """In one step, so that no kill leaves half of it.

        Raises:
            InputError: it cannot be written.
        """
        text = json.dumps({"program": PROGRAM, **asdict(self)}, indent=1) + "\n"
        try:
            (folder / f".{RUN}").write_text(text, encoding="utf-8")
            (folder / f".{RUN}").replace(folder / RUN)
        except OSError as error:
            raise InputError(f"cannot write into {folder.name}: {error.strerror}; choose another place") from error

    def computed_on(self, engine: str) -> "Run":
        """With this machine among the machines."""
        here = {**versions(), "processor": processor(), "computed by": engine}
        return replace(self, machines=(*self.machines, *([] if here in self.machines else [here])))

    def case_folder(self, folder: Path, name: str) -> Path:
        """Where a case was when the run was begun."""
        return folder / self.cases[name][0]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other runs out of it; the lock ends with the process, however that ends.

    Raises:
        InputError: it cannot be made, or another process is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = os.open(folder, os.O_RDONLY)
    except FileExistsError as error:
        raise InputError(f"{folder.name} is a file; give a folder to write") from error
    except OSError as error:
        raise InputError(f"cannot write into {folder.name}: {error.strerror}; choose another place") from error
    try:
        _lock(place, folder.name)
        yield
    finally:
        os.close(place)


def _lock(place: int, name: str) -> None:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"another evaluation is at work in {name}; wait for it, or give another --out") from error


def wanted(folder: Path, cases: Sequence[PlannedCase], methods: Sequence[str], recipe: Recipe) -> Run:
    """The run that a command line asks for.

    Raises:
        InputError: a case or the weights cannot be read.
    """
    registration = {key: value for key, value in to_mapping(recipe.options).items() if key != "method"}
    registration["model"] = _weights(recipe.options.model, check_regressor)
    learned = to_mapping(recipe.options.learned)
    registration["learned"] = {kind: _weights(path, partial(check_similarity, kind=kind)) for kind, path in learned.items()}
    settings = {
        "version": fluoro_reg.__version__,
        "intensity": None if recipe.intensity is None else recipe.intensity.value,
        "registration": registration,
    }
    places = {case.name: Path(os.path.relpath(case.folder, folder.resolve())).as_posix() for case in cases}
    return Run(
        settings=_plain(settings),
        methods={name: _plain(_told(load_method(name))) for name in methods},
        cases={case.name: (places[case.name], case_digest(case)) for case in cases},
        machines=(),
    )


def continued(before: Run | None, now: Run, folder: Path) -> Run:
    """Both together.

    Raises:
        InputError: something of the run that was begun is different now.
    """
    if before is None:
        return now
    changed = _difference(before.settings, now.settings)
    if changed:
        key, old, new = changed
        raise InputError(f"{folder.name} was begun with {key} {old}, and now it is {new}; give the same, or another --out")
    for name in before.methods.keys() & now.methods.keys():
        if before.methods[name] != now.methods[name]:
            raise InputError(f"the method {name} has changed since {folder.name} was begun; give another --out")
    for name in sorted(before.cases.keys() & now.cases.keys()):
        if before.cases[name][1] != now.cases[name][1]:
            raise InputError(f"the case {name} has changed since {folder.name} was begun; give another --out")
    return Run(now.settings, {**before.methods, **now.methods}, {**before.cases, **now.cases}, before.machines)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> tuple[str, Any, Any] | None:
    """The first key, dotted, whose values differ, and both values."""
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
    """A file of weights by its name and content: paths are nobody's business, and weights are trained again."""
    if not model:
        return ""
    check(model)
    return f"{Path(model).name}, SHA-256 {hashlib.sha256(Path(model).read_bytes()).hexdigest()[:16]}"


def _told(value: Any) -> Any:
    """A dataclass with all that it holds, each by the name of its class: two similarities may have the same settings."""
    if is_dataclass(value):
        return {"type": type(value).__name__, **{field.name: _told(getattr(value, field.name)) for field in fields(value)}}
    return [_told(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
