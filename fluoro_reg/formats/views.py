"""`view.json`: a further X-ray of the same, unmoved patient, and the pose of its camera relative to that of the first X-ray.

    {"image": "lateral.png", "camera": "lateral_camera.json", "intensity": "auto", "frame": 0,
     "unit": "mm", "camera_from_first": [[r, r, r, tx], [r, r, r, ty], [r, r, r, tz], [0, 0, 0, 1]]}

`camera_from_first` maps points from the optical frame of the first X-ray's camera to that of this camera. It comes from the
calibration of a biplane system or from a tracker on the C-arm, and is assumed to be exact. Paths are relative to the file.
Unlike in a pose file, unknown keys are rejected, because a misspelt "frame" would silently select another frame.
"""

from dataclasses import dataclass
from pathlib import Path

from fluoro_reg.config import from_mapping, option
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cameras import read_camera_of_image
from fluoro_reg.formats.json_file import read_json, write_json
from fluoro_reg.formats.poses import pose_entry
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray
from fluoro_reg.xray.view import CalibratedXray

_POSE_KEYS = ("camera_from_first", "unit")


@dataclass(frozen=True, slots=True)
class ViewEntries:
    """The entries of a view.json that describe the X-ray."""

    image: str
    camera: str | None = option(None, "camera.json; required unless the DICOM file contains the geometry")
    intensity: str = option(Intensity.AUTO.value, "what the pixel values mean", choices=tuple(kind.value for kind in Intensity))
    frame: int = option(0, "frame of a cine or page of a TIFF", minimum=0)


def read_view(path: Path | str, undistort: bool = False) -> CalibratedXray:
    """Read the X-ray of a view.json, with the first camera as the reference.

    `undistort` says whether the distortion that its camera.json states is undone in the pixels.

    Raises:
        InputError: An entry is missing, malformed or unknown, or the image or camera cannot be used.
    """
    path = Path(path)
    content = read_json(path)
    camera_from_first = pose_entry(content, "camera_from_first", path.name)
    entries = from_mapping(ViewEntries, {key: content[key] for key in content if key not in _POSE_KEYS}, path.name)
    try:
        camera, distortion = read_camera_of_image(None if entries.camera is None else path.parent / entries.camera, undistort)
        image = read_xray(path.parent / entries.image, camera, Intensity(entries.intensity), entries.frame, distortion)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    return CalibratedXray(image, camera_from_first)


def read_camera_from_first(path: Path | str) -> RigidTransform:
    """Read only the pose of a view.json, or of any JSON file with `camera_from_first`.

    Raises:
        InputError: The file or its pose is missing or malformed.
    """
    path = Path(path)
    return pose_entry(read_json(path), "camera_from_first", path.name)


def write_view(path: Path | str, entries: ViewEntries, camera_from_first: RigidTransform) -> None:
    """Write a view.json for an image and a camera that are files already."""
    xray = {"image": entries.image, "camera": entries.camera, "intensity": entries.intensity, "frame": entries.frame}
    write_json(path, {**xray, "unit": "mm", "camera_from_first": camera_from_first.matrix().tolist()})
