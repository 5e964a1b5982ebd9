"""What came of one case with one method, as one line of JSON, and the file to which such lines are appended.

A line is written by one call, so that a run that is killed leaves at most one torn line, the last; the next start cuts it off
and computes that record again. Everything a report needs is in the records: it can be made without the cases, and long after.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.statistics import Trial

FAILED = "failed"  # an outcome beside those of a registration: it raised, or its process died
TIMES = ("seconds", "stage_seconds", "warm")  # what may differ when a record is computed again


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One registration held against its truth.

    `errors` are all figures of `metrics` by name, mm and degrees: infinite where the pose has no projection, absent where they
    cannot be told (no pose; no source-to-detector distance). `reason` is the registration's, or why it failed. `seconds` are
    those of the registration alone; `warm` says that its process had registered another image to this CT by this method, for
    the first one waits for compilers and coarse CTs. `start_band_mm` is the case's, else None.
    """

    case: str
    method: str
    ct: str
    variant: str
    start_band_mm: tuple[float, float] | None
    seed: int
    accepted: bool
    outcome: str
    reason: str
    start_mtre_mm: float | None = None
    camera_from_patient: list[list[float]] | None = None
    errors: dict[str, float] = field(default_factory=dict)
    similarity: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    n_renders: int = 0
    device: str = ""
    intensity: str = ""
    ct_fingerprint: str = ""
    seconds: float | None = None
    stage_seconds: dict[str, float] = field(default_factory=dict)
    warm: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """(case, method): what a run computes once."""
        return self.case, self.method

    @property
    def failed(self) -> bool:
        """Whether there is an error sentence instead of an answer."""
        return self.outcome == FAILED

    @property
    def trial(self) -> Trial:
        """For the statistics; a start that is not known is NaN."""
        start = math.nan if self.start_mtre_mm is None else self.start_mtre_mm
        return Trial(start, self.figure("mtre_mm"), self.accepted)

    def figure(self, name: str) -> float:
        """An error by name; infinite without a pose, NaN where it cannot be told."""
        return self.errors.get(name, math.nan if self.camera_from_patient is not None else math.inf)

    def to_line(self) -> bytes:
        """Strict JSON: what is infinite or NaN is null."""
        content = dataclasses.asdict(self)
        for name in ("errors", "scores", "stage_seconds"):
            content[name] = {key: value if math.isfinite(value) else None for key, value in content[name].items()}
        if self.similarity is not None and not math.isfinite(self.similarity):
            content["similarity"] = None
        return json.dumps(content, allow_nan=False).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "EvaluationRecord":
        """The inverse of `to_line`: null among the errors is infinite.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        content: dict[str, Any] = json.loads(line)
        content["errors"] = {name: math.inf if value is None else float(value) for name, value in content["errors"].items()}
        content["scores"] = {name: math.nan if value is None else value for name, value in content["scores"].items()}
        if content["start_band_mm"] is not None:
            low, high = map(float, content["start_band_mm"])
            content["start_band_mm"] = (low, high)
        return EvaluationRecord(**content)


def read_records(path: Path) -> list[EvaluationRecord]:
    """All whole records of a file, none where there is no file; a torn last line is left out.

    Raises:
        InputError: the file cannot be read, or a line within it is no record.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    records: dict[tuple[str, str], EvaluationRecord] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            record = EvaluationRecord.from_line(line)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"line {number} of {path.name} is no record; remove it, and it is computed again") from error
        records.setdefault(record.key, record)
    return list(records.values())


@contextmanager
def appending(path: Path) -> Iterator[Callable[[EvaluationRecord], None]]:
    """A function that writes a record behind the last whole line; what is behind that is cut off first.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with path.open("ab", buffering=0) as file:
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
            yield lambda record: _write(file, record.to_line(), path.name)
    except OSError as error:
        raise InputError(f"cannot write {path.name}: {error.strerror}; choose another place") from error


def _write(file: Any, line: bytes, name: str) -> None:
    """One call: a kill tears this line or none."""
    if file.write(line) != len(line):
        raise InputError(f"cannot write {name} whole: is the disk full? Make room, and give the same command again")
