"""`landmarks.json`: points in patient mm at which the error of a pose is measured."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.formats.json_file import read_json, write_json


def read_landmarks(path: Path | str) -> Float[Tensor, "n 3"]:
    """Read the landmarks, in patient mm.

    Raises:
        InputError: `points_patient_mm` is missing, empty, or not a list of three finite numbers each.
    """
    path = Path(path)
    rows = read_json(path).get("points_patient_mm")
    message = f"{path.name} must contain 'points_patient_mm', a list of [x, y, z] in mm"
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and len(row) == 3 for row in rows):
        raise InputError(message)
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for row in rows for value in row):
        raise InputError(message)
    points = torch.tensor(rows, dtype=torch.float64)
    if not torch.isfinite(points).all():
        raise InputError(f"{path.name} contains NaN or infinite coordinates; give finite numbers in mm")
    return points


def write_landmarks(path: Path | str, points_patient: Float[Tensor, "n 3"]) -> None:
    """Write landmarks that `read_landmarks` reads."""
    write_json(path, {"points_patient_mm": points_patient.double().tolist()})
