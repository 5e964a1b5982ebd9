"""`camera.json` and `pose.json`: the two files by which other software hands over a camera and a pose.

Both are read strictly, because a camera or pose that is nearly right gives a registration that is quietly wrong: every number
must be there, finite and of its type, a pose must be a rigid motion, and its unit must be said. Keys that are not ours are left
to those who wrote them, so what `register --json` prints is itself a pose file. Messages name a file by its last part alone.
"""

import json
from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.geometry.camera import CameraIntrinsics
from fluoro_reg.geometry.rigid_transform import RigidTransform


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: no such file, not JSON, or not an object.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text; a JSON file is expected here") from error
    except (json.JSONDecodeError, RecursionError) as error:
        place = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path.name} is not valid JSON{place}; check its brackets, commas and quotes") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold a JSON object in braces, got {_kind(content)}")
    return content


def write_json(path: Path | str, content: dict[str, Any]) -> None:
    """Writes a JSON object; NaN and infinity, which JSON does not have, raise ValueError."""
    Path(path).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def read_camera(path: Path | str) -> CameraIntrinsics:
    """The camera of a `camera.json`; `source_to_detector_mm` may be absent or null, since focal lengths come from K.

    Raises:
        InputError: a missing or malformed entry, or a K that is no pinhole.
    """
    path = Path(path)
    content = read_json(path)
    width, height = (_positive_integer(content, key, path.name) for key in ("width", "height"))
    k = content.get("k")
    if not isinstance(k, list) or len(k) != 9 or not all(_is_number(value) for value in k):
        raise InputError(f"{path.name}: 'k' must be a list of nine numbers, row-major fx 0 cx 0 fy cy 0 0 1")
    distance = content.get("source_to_detector_mm")
    if distance is not None and not _is_number(distance):
        raise InputError(f"{path.name}: 'source_to_detector_mm' must be a number or null, got {_kind(distance)}")
    try:
        k, distance = [float(value) for value in k], None if distance is None else float(distance)
        return CameraIntrinsics.from_k(width, height, k, distance)
    except (InputError, OverflowError) as error:
        raise InputError(f"{path.name}: {error}") from error


def write_camera(path: Path | str, intrinsics: CameraIntrinsics) -> None:
    """The inverse of `read_camera`."""
    size = {"width": intrinsics.width, "height": intrinsics.height}
    write_json(path, {**size, "k": intrinsics.k, "source_to_detector_mm": intrinsics.source_to_detector_mm})


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


def _positive_integer(content: dict[str, Any], key: str, name: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        got = value if _is_number(value) else _kind(value)
        raise InputError(f"{name}: '{key}' must be a positive whole number of pixels, got {got}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_matrix_4x4(rows: Any) -> bool:
    if not isinstance(rows, list) or len(rows) != 4:
        return False
    return all(isinstance(row, list) and len(row) == 4 and all(_is_number(value) for value in row) for row in rows)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
