"""`camera.json`, in which other software provides a camera.

Besides size and K it may state a distortion in the terms of CameraInfo: `distortion_model` and `d`. It is read strictly,
because a slightly wrong camera silently gives a wrong registration: every number must be present, finite and of the right type.
Unknown keys are ignored. Messages contain only the last part of a path.
"""

from pathlib import Path
from typing import Any

from fluoro_reg.errors import InputError
from fluoro_reg.formats.json_file import is_number, json_type_name, read_json, write_json
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.distortion import Distortion, parse_distortion, refused_distortion


def read_camera(path: Path | str) -> CameraIntrinsics:
    """Read a camera; `source_to_detector_mm` may be absent or null, because focal lengths come from K.

    Raises:
        InputError: An entry is missing or malformed, K is not that of a pinhole camera, or the camera has distortion.
    """
    camera, distortion = read_distorted_camera(path)
    if distortion is not None:
        raise refused_distortion(Path(path).name)
    return camera


def read_distorted_camera(path: Path | str) -> tuple[CameraIntrinsics, Distortion | None]:
    """Read a camera and its distortion, which is to be undone in the pixels; None if it has none.

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
        return CameraIntrinsics.from_k(width, height, k, distance), _distortion(content, path.name)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def read_camera_of_image(path: Path | str | None, undistort: bool) -> tuple[CameraIntrinsics | None, Distortion | None]:
    """Return the camera that is given with an image, and the distortion to undo; None and None if no camera is given.

    Raises:
        InputError: The file is unusable, or its camera has distortion that is not to be undone.
    """
    if path is None:
        return None, None
    return read_distorted_camera(path) if undistort else (read_camera(path), None)


def write_camera(path: Path | str, intrinsics: CameraIntrinsics) -> None:
    """Write a camera that `read_camera` reads."""
    size = {"width": intrinsics.width, "height": intrinsics.height}
    write_json(path, {**size, "k": intrinsics.k, "source_to_detector_mm": intrinsics.source_to_detector_mm})


def _distortion(content: dict[str, Any], name: str) -> Distortion | None:
    model, coefficients = content.get("distortion_model", ""), content.get("d") or []
    if not isinstance(model, str) or not isinstance(coefficients, list) or not all(map(is_number, coefficients)):
        raise InputError("'d' must be a list of numbers and 'distortion_model' a name, as in CameraInfo")
    return parse_distortion(model, coefficients, name)


def _positive_integer(content: dict[str, Any], key: str, name: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        got = value if is_number(value) else json_type_name(value)
        raise InputError(f"{name}: '{key}' must be a positive whole number of pixels, got {got}")
    return value
