"""Which registrations an evaluation consists of, and in which order they are best computed.

Jobs are ordered by CT, then method, then case: whoever takes them one after another reads a CT once and keeps a registrar as
long as it is of use. A job's seed follows from the run's seed and the job's own names alone, so that neither the order, nor
the number of workers, nor what else is evaluated changes a result.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fluoro_reg.config import to_mapping
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cases import find_cases, name_of_ct, read_case
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.registration.method import load_method, load_methods, missing_weights

ALL_METHODS = "all"
_OWN_FILES = ("case.json", "camera.json", "initial.json", "truth.json", "landmarks.json")


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """A case under a name that no other case of the run has; `ct` and `image` are None where the case is malformed."""

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
        """That of its record."""
        return self.case, self.method


def planned_cases(roots: Sequence[Path], limit: int | None = None) -> list[PlannedCase]:
    """The cases of all folders, at most `limit` of each, named `<folder>/<case>`; folders and CTs of one name are numbered.

    A malformed case stays in: what is wrong with it will be its record.

    Raises:
        InputError: a folder without cases, or one that is given twice.
    """
    resolved = [root.resolve() for root in roots]
    twice = [root.name for root, times in Counter(resolved).items() if times > 1]
    if twice:
        raise InputError(f"the folder of cases {twice[0]} is given twice; name it once")
    found = []
    for root, root_name in zip(resolved, _distinct(resolved), strict=True):
        for folder in find_cases(root)[:limit]:
            name = root_name if folder == root else f"{root_name}/{folder.relative_to(root).as_posix()}"
            found.append((root, _planned(name, folder)))
    return _with_distinct_cts(found)


def chosen_methods(names: Sequence[str], options: RegistrationOptions) -> list[str]:
    """Names as typed (`a,b` and `all`, those for which the options name weights, are understood), each once.

    Raises:
        InputError: no such method, in a sentence that lists those there are, or one that needs weights and has none.
    """
    methods, learned = load_methods(), to_mapping(options.learned)
    possible = [name for name, method in methods.items() if missing_weights(method, options.model, learned) is None]
    words = [word for name in names for word in name.replace(",", " ").split()]
    chosen = [method for word in words for method in (possible if word == ALL_METHODS else [word])]
    if not chosen:
        raise InputError(f"name at least one method; there are {', '.join(methods)}")
    for name in chosen:
        if (sentence := missing_weights(load_method(name), options.model, learned)) is not None:
            raise InputError(sentence)
    return list(dict.fromkeys(chosen))


def jobs(cases: Sequence[PlannedCase], methods: Sequence[str], seed: int) -> list[Job]:
    """Every case by every method, in the order in which a worker should take them."""
    cts = list(dict.fromkeys(case.ct for case in cases))
    ordered = sorted(((cts.index(case.ct), m, n) for n, case in enumerate(cases) for m in range(len(methods))))
    return [
        Job(cases[n].name, cases[n].folder, cases[n].ct_name, methods[m], job_seed(seed, cases[n].name, methods[m]))
        for _, m, n in ordered
    ]


def job_seed(seed: int, case: str, method: str) -> int:
    """31 bits from all three."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{case}\n{method}".encode()).digest()[:4], "big") >> 1


def case_digest(case: PlannedCase) -> str:
    """Changes when the case does: its folder by content, its CT, and a cine elsewhere, by the names and sizes of their files.

    Raises:
        InputError: a file cannot be read.
    """
    digest = hashlib.sha256()
    images = [path for path in case.folder.glob("*") if path.is_file() and path.name not in _OWN_FILES]
    own = [case.folder / name for name in _OWN_FILES if (case.folder / name).is_file()]
    try:
        for path in sorted([*own, *images]):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
        for path in (*_files(case.ct), *_elsewhere(case)):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    except OSError as error:
        raise InputError(f"cannot read case {case.name}: {error.strerror}; check its files") from error
    return digest.hexdigest()[:16]


def _files(ct: Path | None) -> list[Path]:
    if ct is None:
        return []
    return [ct] if ct.is_file() else sorted(path for path in ct.rglob("*") if path.is_file())


def _elsewhere(case: PlannedCase) -> list[Path]:
    """The image, where it does not lie in the case's folder."""
    return [] if case.image is None or case.image.parent == case.folder.resolve() else [case.image]


def _planned(name: str, folder: Path) -> PlannedCase:
    try:
        case = read_case(folder)
    except InputError:
        return PlannedCase(name, folder, None, "")
    return PlannedCase(name, folder, case.ct.resolve(), case.ct_name or name_of_ct(case.ct), case.image.resolve())


def _with_distinct_cts(found: Sequence[tuple[Path, PlannedCase]]) -> list[PlannedCase]:
    """CTs of one name are one CT, whole or cut, within a folder of cases; in two folders only where they share a file."""
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


def _distinct(paths: Sequence[Path]) -> list[str]:
    """The paths' last parts; where one was there before, with a number."""
    names = [path.name for path in paths]
    return [_numbered(name, names[:n].count(name)) for n, name in enumerate(names)]


def _numbered(name: str, earlier: int) -> str:
    return f"{name} ({earlier + 1})" if earlier else name
