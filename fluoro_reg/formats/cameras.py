"""`camera.json`, in which other software provides a camera.

It is read strictly, because a slightly wrong camera silently gives a wrong registration: every number must be present, finite
and of the right type. Unknown keys are ignored. Messages contain only the last part of a path.
"""

from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.formats.json_file import is_number, json_type_name, read_json, write_json
from fluoro_reg.geometry import CameraIntrinsics


def read_camera(path: Path | str) -> CameraIntrinsics:
    """Read a camera; `source_to_detector_mm` may be absent or null, because focal lengths come from K.

    Raises:
        InputError: An entry is missing or malformed, or K is not that of a pinhole camera.
    """
    path = Path(path)
    content = read_json(path)
    width, height = (_positive_integer(content, key, path.name) for key in ("width", "height"))
    k = content.get("k")
    if not isinstance(k, list) or len(k) != 9 or not all(is_number(value) for value in k):
        raise InputError(f"{path.name}: 'k' must be a list of nine numbers, row-major fx 0 cx 0 fy cy 0 0 1")
    distance = content.get("source_to_detector_mm")
    if distance is not None and not is_number(distance):
        raise InputError(f"{path.name}: 'source_to_detector_mm' must be a number or null, got {json_type_name(distance)}")
    try:
        k, distance = [float(value) for value in k], None if distance is None else float(distance)
        return CameraIntrinsics.from_k(width, height, k, distance)
    except (InputError, OverflowError) as error:
        raise InputError(f"{path.name}: {error}") from error


def write_camera(path: Path | str, intrinsics: CameraIntrinsics) -> None:
    """Write a camera that `read_camera` reads."""
    size = {"width": intrinsics.width, "height": intrinsics.height}
    write_json(path, {**size, "k": intrinsics.k, "source_to_detector_mm": intrinsics.source_to_detector_mm})


def _positive_integer(content: dict[str, Any], key: str, name: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        got = value if is_number(value) else json_type_name(value)
        raise InputError(f"{name}: '{key}' must be a positive whole number of pixels, got {got}")
    return value
