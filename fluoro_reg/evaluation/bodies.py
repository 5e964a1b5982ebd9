"""Errors of every body of a case, and their summary by method and body.

A body is measured at points of it that the image shows. Beside the errors of its pose are those of its pose relative to its
parent, which say how well the motion between two bones is known.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.evaluation.records import EvaluationRecord
from fluoro_reg.evaluation.report.files import write_rows
from fluoro_reg.formats.bodies import BodiesConfig
from fluoro_reg.formats.body_truth import BodyTruth
from fluoro_reg.registration import RegistrationResult

RIGHT_MM, WRONG_MM = 1.0, 5.0  # in plane


def body_entries(
    result: RegistrationResult, truths: Mapping[str, BodyTruth], config: BodiesConfig
) -> dict[str, dict[str, Any]]:
    """The outcome and the errors of every body, for the record of a case; no errors without a pose or visible points."""
    return {name: _entry(name, result, truths, config) for name in result.bodies}


def _entry(name: str, result: RegistrationResult, truths: Mapping[str, BodyTruth], config: BodiesConfig) -> dict[str, Any]:
    found, truth = result.bodies[name], truths.get(name)
    entry: dict[str, Any] = {"accepted": found.accepted, "outcome": found.outcome.value, "reason": found.reason}
    if truth is None:
        return {**entry, "errors": {}}
    entry["in_field"] = truth.in_field
    pose, points = found.camera_from_patient, truth.points_patient
    if pose is None or not len(points):
        return {**entry, "errors": {}}
    errors = target_registration_errors(pose, truth.camera_from_patient, points)
    named = {
        "mtre_mm": errors.mtre_mm,
        "in_plane_mm": errors.in_plane_mm,
        "depth_mm": errors.depth_mm,
        "rotation_deg": errors.rotation_deg,
    }
    parent = config.parent(name)
    parent_pose, parent_truth = result.bodies[parent].camera_from_patient, truths.get(parent)
    if name != config.reference and parent_pose is not None and parent_truth is not None:
        true = parent_truth.camera_from_patient.inverse() @ truth.camera_from_patient
        relative = target_registration_errors(parent_pose.inverse() @ pose, true, points)
        named |= {"relative_mtre_mm": relative.mtre_mm, "relative_rotation_deg": relative.rotation_deg}
    return {**entry, "errors": named}


def summarise_bodies(records: Sequence[EvaluationRecord]) -> list[dict[str, Any]]:
    """One row for each method and body, over the bodies with errors; empty if no case has bodies."""
    rows = []
    for method in dict.fromkeys(record.method for record in records):
        of_method = [record for record in records if record.method == method and record.bodies]
        for body in dict.fromkeys(name for record in of_method for name in record.bodies):
            entries = [record.bodies[body] for record in of_method if body in record.bodies]
            rows.append({"method": method, "body": body, **_summary(entries)})
    return rows


def _summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    measured = [entry for entry in entries if entry["errors"]]
    in_plane = [entry["errors"]["in_plane_mm"] for entry in measured]
    wrong = sum(entry["accepted"] and entry["errors"]["in_plane_mm"] > WRONG_MM for entry in measured)

    def median(name: str) -> float | None:
        values = [entry["errors"][name] for entry in measured if name in entry["errors"]]
        return statistics.median(values) if values else None

    return {
        "n": len(entries),
        "measured": len(measured),
        "in_plane_within_1_mm": sum(value < RIGHT_MM for value in in_plane) / len(in_plane) if in_plane else None,
        **{f"median_{name}": median(name) for name in ("in_plane_mm", "mtre_mm", "relative_rotation_deg")},
        "accepted": sum(entry["accepted"] for entry in entries),
        "gross_accepted": wrong,
    }


def write_bodies_csv(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """Write one row for each body of each record."""
    rows = [
        {"case": record.case, "method": record.method, "body": name, **_flat(entry)}
        for record in records
        for name, entry in record.bodies.items()
    ]
    write_rows(path, rows)


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in entry.items() if key != "errors"}, **entry["errors"]}
