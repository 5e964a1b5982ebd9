"""The plan of an evaluation: its registrations and the order in which they are computed.

Jobs are ordered by CT, then method, then case, so that a worker reads each CT once and reuses its registrar. The seed of a job
depends only on the seed of the run and the names of its case and method. Order, number of workers and other jobs therefore do
not change a result.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fluoro_reg.config import to_mapping
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cases import default_ct_name, find_cases, read_case
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.registration.method import Method, load_method, load_methods, missing_weights

ALL_METHODS = "all"
_CASE_FILES = ("case.json", "camera.json", "initial.json", "truth.json", "landmarks.json")


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """A case with a name that is unique in the run; `ct` and `image` are None if the case is malformed."""

    name: str
    folder: Path
    ct: Path | None
    ct_name: str
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One registration to compute."""

    case: str
    folder: Path
    ct_name: str
    method: str
    seed: int

    @property
    def key(self) -> tuple[str, str]:
        """(case, method), as that of the job's record."""
        return self.case, self.method


def plan_cases(roots: Sequence[Path], limit: int | None = None) -> list[PlannedCase]:
    """Return the cases of all folders, at most `limit` of each, named `<folder>/<case>`.

    Folders and CTs with equal names are numbered. A malformed case is included; its record will state the error.

    Raises:
        InputError: A folder has no cases or is given twice.
    """
    resolved = [root.resolve() for root in roots]
    duplicates = [root.name for root, times in Counter(resolved).items() if times > 1]
    if duplicates:
        raise InputError(f"the folder of cases {duplicates[0]} is given twice; give it once")
    found = []
    for root, root_name in zip(resolved, _unique_names(resolved), strict=True):
        for folder in find_cases(root)[:limit]:
            name = root_name if folder == root else f"{root_name}/{folder.relative_to(root).as_posix()}"
            found.append((root, _plan_case(name, folder)))
    return _with_distinct_cts(found)


def select_methods(names: Sequence[str], options: RegistrationOptions) -> list[Method]:
    """Return the selected methods without duplicates.

    Args:
        names: Names or YAML files of methods as typed. `a,b` is a list, and `all` stands for all methods that have the
            weights they need.
        options: Options that name the weights.

    Raises:
        InputError: A method is unknown (the message lists the known ones) or lacks weights, or two files have one name.
    """
    methods, learned = load_methods(), to_mapping(options.learned)
    possible = [name for name, method in methods.items() if missing_weights(method, options.model, learned) is None]
    words = [word for name in names for word in name.replace(",", " ").split()]
    chosen: dict[str, Method] = {}
    for name in (name for word in words for name in (possible if word == ALL_METHODS else [word])):
        method = load_method(name)
        if chosen.setdefault(method.name, method) != method:
            raise InputError(f"two files of methods are called {method.name}; rename one of them")
        if (sentence := missing_weights(method, options.model, learned)) is not None:
            raise InputError(sentence)
    if not chosen:
        raise InputError(f"give at least one method of: {', '.join(methods)}")
    return list(chosen.values())


def plan_jobs(cases: Sequence[PlannedCase], methods: Sequence[str], seed: int) -> list[Job]:
    """Return a job for every case and method, in the order in which workers should take them."""
    cts = list(dict.fromkeys(case.ct for case in cases))
    ordered = sorted(((cts.index(case.ct), m, n) for n, case in enumerate(cases) for m in range(len(methods))))
    return [
        Job(cases[n].name, cases[n].folder, cases[n].ct_name, methods[m], job_seed(seed, cases[n].name, methods[m]))
        for _, m, n in ordered
    ]


def job_seed(seed: int, case: str, method: str) -> int:
    """Return a 31-bit seed that depends on the run's seed, the case and the method."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{case}\n{method}".encode()).digest()[:4], "big") >> 1


def case_digest(case: PlannedCase) -> str:
    """Return a digest that changes with the case.

    It covers the contents of the files in the case folder, and the names and sizes of the files of the CT and of an image
    outside the folder.

    Raises:
        InputError: A file cannot be read.
    """
    digest = hashlib.sha256()
    images = [path for path in case.folder.glob("*") if path.is_file() and path.name not in _CASE_FILES]
    own = [case.folder / name for name in _CASE_FILES if (case.folder / name).is_file()]
    try:
        for path in sorted([*own, *images]):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
        for path in (*_files(case.ct), *_external_image(case)):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    except OSError as error:
        raise InputError(f"cannot read case {case.name}: {error.strerror}; check its files") from error
    return digest.hexdigest()[:16]


def _files(ct: Path | None) -> list[Path]:
    if ct is None:
        return []
    return [ct] if ct.is_file() else sorted(path for path in ct.rglob("*") if path.is_file())


def _external_image(case: PlannedCase) -> list[Path]:
    """Return the image if it is outside the case's folder."""
    return [] if case.image is None or case.image.parent == case.folder.resolve() else [case.image]


def _plan_case(name: str, folder: Path) -> PlannedCase:
    try:
        case = read_case(folder)
    except InputError:
        return PlannedCase(name, folder, None, "")
    return PlannedCase(name, folder, case.ct.resolve(), case.ct_name or default_ct_name(case.ct), case.image.resolve())


def _with_distinct_cts(found: Sequence[tuple[Path, PlannedCase]]) -> list[PlannedCase]:
    """Number different CTs with the same name.

    Within a folder of cases, CTs with the same name count as one CT, full or truncated. In different folders they count as one
    CT only if they share a file.
    """
    files: dict[tuple[str, Path], set[Path | None]] = defaultdict(set)
    for root, case in found:
        files[case.ct_name, root].add(case.ct)
    different: dict[str, list[set[Path | None]]] = defaultdict(list)
    number = {}
    for (name, root), paths in files.items():
        known = different[name]
        same = next((n for n, others in enumerate(known) if others & paths), len(known))
        if same == len(known):
            known.append(set())
        known[same] |= paths
        number[name, root] = same
    return [replace(case, ct_name=_numbered(case.ct_name, number[case.ct_name, root])) for root, case in found]


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of the paths; repeated names are numbered."""
    names = [path.name for path in paths]
    return [_numbered(name, names[:n].count(name)) for n, name in enumerate(names)]


def _numbered(name: str, earlier: int) -> str:
    return f"{name} ({earlier + 1})" if earlier else name
