"""`landmarks.json`: points of the patient (mm) at which the error of a pose is measured."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.formats.json_file import read_json, write_json


def read_landmarks(path: Path | str) -> Float[Tensor, "n 3"]:
    """`points_patient_mm` of a landmarks.json.

    Raises:
        InputError: missing, empty, not rows of three finite numbers.
    """
    path = Path(path)
    rows = read_json(path).get("points_patient_mm")
    rule = f"{path.name} must hold 'points_patient_mm', a list of [x, y, z] in mm"
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and len(row) == 3 for row in rows):
        raise InputError(rule)
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for row in rows for value in row):
        raise InputError(rule)
    points = torch.tensor(rows, dtype=torch.float64)
    if not torch.isfinite(points).all():
        raise InputError(f"{path.name} holds NaN or infinite coordinates; give finite numbers in mm")
    return points


def write_landmarks(path: Path | str, points_patient: Float[Tensor, "n 3"]) -> None:
    """The inverse of `read_landmarks`."""
    write_json(path, {"points_patient_mm": points_patient.double().tolist()})
