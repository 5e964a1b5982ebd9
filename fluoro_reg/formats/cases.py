"""Case folders: one registration problem with its true pose, in files that any program can read or write.

    case/ ct/ (or a path in case.json)  image.npy|png|dcm  camera.json  initial.json  truth.json  landmarks.json  case.json

A case contains the paths of its CT and image. It does not read them; the readers of `ct` and `xray` do, with the options of a
run. case.json may contain the labels by which reports group cases: the CT, the band of initial errors, and the variant.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16
from PIL import Image
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.formats.cameras import read_camera, write_camera
from fluoro_reg.formats.json_file import read_json, write_json
from fluoro_reg.formats.landmarks import read_landmarks, write_landmarks
from fluoro_reg.formats.poses import read_pose, write_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.xray.image import Intensity


@dataclass(frozen=True, slots=True)
class RegistrationCase:
    """One case.

    Attributes:
        folder: The case folder.
        ct: Path of the CT.
        image: Path of the X-ray.
        intensity: What the pixel values mean.
        intrinsics: The camera.
        initial: The initial pose; None without an initial.json, for methods that need none.
        truth: The true pose, `camera_from_patient`.
        landmarks_patient: Points at which errors are measured, in patient mm.
        ct_name: Name of the CT in reports; if empty, its file name is used.
        variant: What is special about the image.
        start_band_mm: Band (low, high) of mTRE from which the error of the initial pose was drawn.
        frame: Index of the frame, from 0, where the image is a cine.
        bodies: Path of a bodies.yaml, if every bone has a pose of its own; their true poses are in bodies.json of the folder.
        labels: Path of the segmentation for it.
    """

    folder: Path
    ct: Path
    image: Path
    intensity: Intensity
    intrinsics: CameraIntrinsics
    initial: RigidTransform | None
    truth: RigidTransform
    landmarks_patient: Float[Tensor, "n 3"]
    ct_name: str = ""
    variant: str = ""
    start_band_mm: tuple[float, float] | None = None
    frame: int = 0
    bodies: Path | None = None
    labels: Path | None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name


def find_cases(root: Path | str) -> list[Path]:
    """Find the case folders (those with a case.json) below `root`, sorted by path; `root` may itself be a case.

    Raises:
        InputError: There is none.
    """
    root = Path(root)
    if (root / "case.json").is_file():
        return [root]
    folders = sorted(path.parent for path in root.rglob("case.json"))
    if not folders:
        raise InputError(f"there is no case folder (with a case.json) in {root.name}; create cases with 'fluoro-reg simulate'")
    return folders


def default_ct_name(path: Path | str) -> str:
    """Return the name of a CT without a given name: its folder, or its file name without the suffix."""
    path = Path(path).resolve()
    return path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem


def read_case(folder: Path | str) -> RegistrationCase:
    """Read and check a case folder. The CT and the image must exist; their content is not read.

    Raises:
        InputError: A file is missing or malformed.
    """
    folder = Path(folder)
    content = read_json(folder / "case.json")
    initial = folder / "initial.json"
    return RegistrationCase(
        folder=folder,
        ct=_existing_path(folder, content, "ct", default="ct"),
        image=_existing_path(folder, content, "image", default=None),
        intensity=_intensity(content.get("intensity", Intensity.AUTO.value)),
        intrinsics=read_camera(folder / "camera.json"),
        initial=read_pose(initial) if initial.exists() else None,
        truth=read_pose(folder / "truth.json"),
        landmarks_patient=read_landmarks(folder / "landmarks.json"),
        ct_name=_string(content, "ct_name"),
        variant=_string(content, "variant"),
        start_band_mm=_band(content),
        frame=_frame(content),
        bodies=_existing_path(folder, content, "bodies", default=None) if "bodies" in content else None,
        labels=_existing_path(folder, content, "labels", default=None) if "labels" in content else None,
    )


def write_case(case: RegistrationCase, pixels: UInt16[np.ndarray, "height width"] | None = None) -> None:
    """Write a case folder with its image as a 16-bit PNG. Without `pixels`, the image is a file that already exists.

    The paths of CT and image are written relative to the folder.
    """
    case.folder.mkdir(parents=True, exist_ok=True)
    if pixels is not None:
        Image.fromarray(pixels).save(case.image)
    write_camera(case.folder / "camera.json", case.intrinsics)
    if case.initial is not None:
        write_pose(case.folder / "initial.json", case.initial)
    write_pose(case.folder / "truth.json", case.truth)
    write_landmarks(case.folder / "landmarks.json", case.landmarks_patient)
    ct, image = _relative(case, case.ct), _relative(case, case.image)
    labels = {"ct_name": case.ct_name, "variant": case.variant, "start_band_mm": case.start_band_mm, "frame": case.frame}
    labels = {key: value for key, value in labels.items() if value}
    labels |= {"bodies": _relative(case, case.bodies)} if case.bodies else {}
    labels |= {"labels": _relative(case, case.labels)} if case.labels else {}
    write_json(case.folder / "case.json", {"ct": ct, "image": image, "intensity": case.intensity.value, **labels})


def _relative(case: RegistrationCase, path: Path) -> str:
    return Path(os.path.relpath(path.resolve(), case.folder.resolve())).as_posix()


def _existing_path(folder: Path, content: dict[str, Any], key: str, default: str | None) -> Path:
    entry = content.get(key, default)
    if not isinstance(entry, str) or not entry:
        raise InputError(f"case.json of {folder.name} must give the path of its {key} in '{key}', relative to the case folder")
    path = folder / entry
    if not path.exists():
        raise InputError(f"the {key} of case {folder.name}, {Path(entry).name}, does not exist; correct case.json")
    return path


def _intensity(value: Any) -> Intensity:
    try:
        return Intensity(value)
    except ValueError as error:
        known = ", ".join(intensity.value for intensity in Intensity)
        raise InputError(f"case.json: 'intensity' must be one of {known}, got {value!r}") from error


def _string(content: dict[str, Any], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"case.json: '{key}' must be a string, got {value!r}")
    return value


def _band(content: dict[str, Any]) -> tuple[float, float] | None:
    band = content.get("start_band_mm")
    if band is None:
        return None
    if not isinstance(band, list) or len(band) != 2 or not all(type(value) in (int, float) for value in band):
        raise InputError(f"case.json: 'start_band_mm' must be [low, high] in mm, got {band!r}")
    low, high = map(float, band)
    return low, high


def _frame(content: dict[str, Any]) -> int:
    frame = content.get("frame", 0)
    if type(frame) is not int or frame < 0:
        raise InputError(f"case.json: 'frame' must be the index of a frame, from 0, got {frame!r}")
    return frame
