"""Records of an evaluation: the result of one case with one method as one line of JSON, appended to a file.

Each line is written with a single call, so that a killed run leaves at most one incomplete line at the end. The next run
removes it and computes that record again. The records hold all data of a report, so that it can be made later and without the
cases.
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

FAILED = "failed"  # an outcome in addition to those of a registration: an exception, or the process died
TIME_FIELDS = ("seconds", "stage_seconds", "warm")  # the fields that may differ when a record is computed again


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """The result of one registration and its errors.

    `errors` are those of `metrics` by name, in mm and degrees. They are infinite if the pose has no projection, and absent if
    they are unknown (no pose, or no source-to-detector distance). `reason` is that of the registration, or the error sentence
    of a failure. `seconds` is the time of the registration alone. `warm` means that the process had registered another image to
    this CT with this method before; the first registration includes compilation and the preparation of coarse CTs.
    `start_band_mm` is that of the case, or None. `bodies` are the outcome and the errors of every body by name, where the case
    has bodies; everything else is about the reference body then.
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
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """(case, method), which is unique in a run."""
        return self.case, self.method

    @property
    def failed(self) -> bool:
        """Whether the registration failed with an error and has no result."""
        return self.outcome == FAILED

    @property
    def trial(self) -> Trial:
        """The record as input of the statistics; an unknown initial mTRE is NaN."""
        initial_mtre_mm = math.nan if self.start_mtre_mm is None else self.start_mtre_mm
        return Trial(initial_mtre_mm, self.error("mtre_mm"), self.accepted)

    def error(self, name: str) -> float:
        """Return an error by name, infinite without a pose and NaN if it is unknown."""
        return self.errors.get(name, math.nan if self.camera_from_patient is not None else math.inf)

    def to_line(self) -> bytes:
        """Return the record as a line of strict JSON, in which infinite and NaN values are null."""
        content = dataclasses.asdict(self)
        for name in ("errors", "scores", "stage_seconds"):
            content[name] = {key: value if math.isfinite(value) else None for key, value in content[name].items()}
        if self.similarity is not None and not math.isfinite(self.similarity):
            content["similarity"] = None
        return json.dumps(content, allow_nan=False).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "EvaluationRecord":
        """Return the record of a line made by `to_line`; null in the errors is read as infinite.

        Raises:
            ValueError, TypeError, KeyError: The line is not a record.
        """
        content: dict[str, Any] = json.loads(line)
        content["errors"] = {name: math.inf if value is None else float(value) for name, value in content["errors"].items()}
        content["scores"] = {name: math.nan if value is None else value for name, value in content["scores"].items()}
        if content["start_band_mm"] is not None:
            low, high = map(float, content["start_band_mm"])
            content["start_band_mm"] = (low, high)
        return EvaluationRecord(**content)


def read_records(path: Path) -> list[EvaluationRecord]:
    """Return the records of a file, or none if the file does not exist; an incomplete last line is ignored.

    Raises:
        InputError: The file cannot be read, or a complete line is not a record.
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
            raise InputError(f"line {number} of {path.name} is not a record; remove it to compute it again") from error
        records.setdefault(record.key, record)
    return list(records.values())


@contextmanager
def record_appender(path: Path) -> Iterator[Callable[[EvaluationRecord], None]]:
    """Remove an incomplete last line and yield a function that appends a record to the file.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        with path.open("ab", buffering=0) as file:
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
            yield lambda record: _write(file, record.to_line(), path.name)
    except OSError as error:
        raise InputError(f"cannot write {path.name}: {error.strerror}; choose another folder") from error


def _write(file: Any, line: bytes, name: str) -> None:
    """Write the line with a single call, so that a kill leaves at most this line incomplete."""
    if file.write(line) != len(line):
        raise InputError(f"cannot write {name} completely; free disk space and repeat the command")
