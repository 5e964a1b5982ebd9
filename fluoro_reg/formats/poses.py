"""`pose.json`, in which other software provides a pose.

It is read strictly, for the reason given in `fluoro_reg.formats.cameras`. Unknown keys are ignored, so that the output of
`register --json` is itself a pose file.
"""

import json
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.formats.json_file import is_number, read_json, write_json
from fluoro_reg.geometry import RigidTransform


def read_pose(path: Path | str) -> RigidTransform:
    """Read `camera_from_patient`, mm, float64.

    Raises:
        InputError: An entry is missing or malformed, the unit is not mm, or the matrix is not rigid.
    """
    path = Path(path)
    return pose_entry(read_json(path), "camera_from_patient", path.name)


def pose_entry(content: dict[str, Any], key: str, name: str) -> RigidTransform:
    """Return the pose under `key` of a JSON object that was read from the file `name`; mm, float64.

    Raises:
        InputError: An entry is missing or malformed, the unit is not mm, or the matrix is not rigid.
    """
    if key not in content:
        raise InputError(f"{name} lacks '{key}'; give a 4 x 4 matrix in mm")
    if content.get("unit") != "mm":
        raise InputError(f'{name} must contain "unit": "mm", got {json.dumps(content.get("unit"))}; convert the pose to mm')
    rows = content[key]
    if not _is_matrix_4x4(rows):
        raise InputError(f"{name}: '{key}' must be four rows of four numbers")
    return RigidTransform.from_matrix(rows, f"'{key}' in {name}")


def write_pose(path: Path | str, camera_from_patient: RigidTransform) -> None:
    """Write a pose that `read_pose` reads, without loss of precision."""
    write_json(path, {"camera_from_patient": camera_from_patient.matrix().tolist(), "unit": "mm"})


def _is_matrix_4x4(rows: Any) -> bool:
    if not isinstance(rows, list) or len(rows) != 4:
        return False
    return all(isinstance(row, list) and len(row) == 4 and all(is_number(value) for value in row) for row in rows)
