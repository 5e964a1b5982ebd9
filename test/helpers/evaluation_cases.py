"""Artificial records for the tests of an evaluation."""

import json
from pathlib import Path

from fluoro_reg.evaluation.records import TIME_FIELDS, EvaluationRecord

METHODS = ["lm-local", "lm-gradient-ncc"]


def record(case: str, method: str = "lm-local", **changed: object) -> EvaluationRecord:
    """Return an accepted record with an mTRE of 0.5 mm, with fields replaced as given; `mtre_mm=None` is one without a pose."""
    mtre_mm = changed.pop("mtre_mm", 0.5)
    errors = {} if mtre_mm is None else {"mtre_mm": mtre_mm, "in_plane_mm": 0.1, "depth_mm": 0.4, "mpd_mm": 0.2}
    content = {
        "case": case,
        "method": method,
        "ct": "hip",
        "variant": "standard",
        "start_band_mm": (5.0, 10.0),
        "seed": 7,
        "accepted": True,
        "outcome": "converged",
        "reason": "similarity 0.97",
        "start_mtre_mm": 7.0,
        "camera_from_patient": None if mtre_mm is None else [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 700], [0, 0, 0, 1]],
        "errors": errors,
        "n_renders": 20,
        "seconds": 0.5,
        "warm": True,
    }
    return EvaluationRecord(**{**content, **changed})


def without_times(path: Path) -> dict[tuple[str, str], dict]:
    """Return the lines of a records.jsonl by case and method, without times; a duplicate is an error."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    content = {(line["case"], line["method"]): {k: v for k, v in line.items() if k not in TIME_FIELDS} for line in lines}
    assert len(content) == len(lines), "duplicate records"
    return content
