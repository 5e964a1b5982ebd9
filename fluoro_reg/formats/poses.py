"""`pose.json`: the file in which other software hands over a pose.

Read strictly, for the reason given in `fluoro_reg.formats.cameras`. Keys that are not ours are left to those who wrote them, so
what `register --json` prints is itself a pose file.
"""

import json
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.formats.json_file import is_number, read_json, write_json
from fluoro_reg.geometry import RigidTransform


def read_pose(path: Path | str) -> RigidTransform:
    """`camera_from_patient` of a `pose.json`, mm, float64.

    Raises:
        InputError: a missing or malformed entry, another unit than mm, or a matrix that is not a rigid motion.
    """
    path = Path(path)
    return rigid_entry(read_json(path), "camera_from_patient", path.name)


def rigid_entry(content: dict[str, Any], key: str, name: str) -> RigidTransform:
    """The rigid motion under `key` of what `read_json` read from the file called `name`; mm, float64.

    Raises:
        InputError: a missing or malformed entry, another unit than mm, or a matrix that is not a rigid motion.
    """
    if key not in content:
        raise InputError(f"{name} lacks '{key}', a 4 x 4 matrix in mm")
    if content.get("unit") != "mm":
        raise InputError(f'{name} must say "unit": "mm", got {json.dumps(content.get("unit"))}; poses in files are in mm')
    rows = content[key]
    if not _is_matrix_4x4(rows):
        raise InputError(f"{name}: '{key}' must be four rows of four numbers")
    return RigidTransform.from_matrix(rows, f"'{key}' in {name}")


def write_pose(path: Path | str, camera_from_patient: RigidTransform) -> None:
    """The inverse of `read_pose`, to the last digit."""
    write_json(path, {"camera_from_patient": camera_from_patient.matrix().tolist(), "unit": "mm"})


def _is_matrix_4x4(rows: Any) -> bool:
    if not isinstance(rows, list) or len(rows) != 4:
        return False
    return all(isinstance(row, list) and len(row) == 4 and all(is_number(value) for value in row) for row in rows)
