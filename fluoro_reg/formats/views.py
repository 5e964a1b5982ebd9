"""`view.json`: a further X-ray of the same, unmoved patient, and where its camera stood to that of the first X-ray.

    {"image": "lateral.png", "camera": "lateral_camera.json", "intensity": "auto", "frame": 0,
     "unit": "mm", "camera_from_first": [[r, r, r, tx], [r, r, r, ty], [r, r, r, tz], [0, 0, 0, 1]]}

`camera_from_first` takes points from the optical frame of the first X-ray's camera to that of this one's; it comes from a
biplane system's calibration or a C-arm's tracker, and is taken as exact. Paths are relative to the file. Unlike in a pose file
a key that is not known is refused: a misspelt "frame" would quietly be another frame.
"""

from dataclasses import dataclass
from pathlib import Path

from fluoro_reg.config import from_mapping, option
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cameras import read_camera
from fluoro_reg.formats.json_file import read_json, write_json
from fluoro_reg.formats.poses import rigid_entry
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray
from fluoro_reg.xray.view import CalibratedXray

_POSE_KEYS = ("camera_from_first", "unit")


@dataclass(frozen=True, slots=True)
class ViewEntries:
    """What a view.json says of the X-ray itself."""

    image: str
    camera: str | None = option(None, "camera.json; needed unless the X-ray's DICOM has its geometry")
    intensity: str = option(Intensity.AUTO.value, "what the pixels are", choices=tuple(kind.value for kind in Intensity))
    frame: int = option(0, "frame of a cine or page of a TIFF", minimum=0)


def read_view(path: Path | str) -> CalibratedXray:
    """The X-ray that a view.json names, with the first camera as the reference.

    Raises:
        InputError: a missing, malformed or unknown entry, or an image or camera that cannot be used.
    """
    path = Path(path)
    content = read_json(path)
    camera_from_first = rigid_entry(content, "camera_from_first", path.name)
    entries = from_mapping(ViewEntries, {key: content[key] for key in content if key not in _POSE_KEYS}, path.name)
    try:
        camera = None if entries.camera is None else read_camera(path.parent / entries.camera)
        image = read_xray(path.parent / entries.image, camera, Intensity(entries.intensity), entries.frame)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    return CalibratedXray(image, camera_from_first)


def write_view(path: Path | str, entries: ViewEntries, camera_from_first: RigidTransform) -> None:
    """Writes a view.json about an image and a camera that are files already."""
    said = {"image": entries.image, "camera": entries.camera, "intensity": entries.intensity, "frame": entries.frame}
    write_json(path, {**said, "unit": "mm", "camera_from_first": camera_from_first.matrix().tolist()})
