"""`bodies.json` of a case: the true pose of every body, and the points of it at which errors are measured.

{"NAME": {"camera_from_patient": [[...]], "unit": "mm", "points_patient_mm": [[x, y, z], ...], "in_field": 0.8}, ...}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.formats.json_file import read_json, write_json
from fluoro_reg.formats.poses import pose_entry
from fluoro_reg.geometry import RigidTransform


@dataclass(frozen=True, slots=True)
class BodyTruth:
    """The true pose of a body, points on it that the image shows (patient mm), and the fraction of all that it shows."""

    camera_from_patient: RigidTransform
    points_patient: Float[Tensor, "n 3"]
    in_field: float


def read_body_truths(path: Path | str) -> dict[str, BodyTruth]:
    """Read the bodies of a case.

    Raises:
        InputError: The file is missing or malformed.
    """
    path, truths = Path(path), {}
    for name, entry in read_json(path).items():
        if not isinstance(entry, dict):
            raise InputError(f"{path.name}: the body {name} must be an object with camera_from_patient and points_patient_mm")
        try:
            points = torch.tensor(entry.get("points_patient_mm", []), dtype=torch.float64).reshape(-1, 3)
            in_field = float(entry.get("in_field", 1.0))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path.name}: points_patient_mm of {name} must be a list of [x, y, z] in mm") from error
        truths[name] = BodyTruth(pose_entry(entry, "camera_from_patient", path.name), points, in_field)
    return truths


def write_body_truths(path: Path | str, truths: Mapping[str, BodyTruth]) -> None:
    """Write the bodies of a case."""
    content = {
        name: {
            "camera_from_patient": truth.camera_from_patient.matrix().tolist(),
            "unit": "mm",
            "points_patient_mm": truth.points_patient.tolist(),
            "in_field": truth.in_field,
        }
        for name, truth in truths.items()
    }
    write_json(path, content)
