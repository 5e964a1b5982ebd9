"""Case folders: one registration problem with its answer, as files that any program can read or write.

    case/ ct/ (or a path in case.json)  image.npy|png|dcm  camera.json  initial.json  truth.json  landmarks.json  case.json

The case names its CT and image by paths and does not read them: the readers of `ct` and `xray` do, with the options of a run.
What a case is an example of (whose CT, which band of starts, which variant) may stand in case.json, and is what reports group
by.
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
    """One case. `initial` is None when the folder has no initial.json (methods that find their own start).

    `ct_name` tells CTs apart for readers (without one: the CT's file name), `variant` what is particular about the image, and
    `start_band_mm` the band of mTRE (low, high) from which the start was drawn. Where the image is a cine, `frame` says which
    of its frames, from 0.
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

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name


def find_cases(root: Path | str) -> list[Path]:
    """The case folders (those with a case.json) in `root` at any depth, sorted by path; `root` may be a case itself.

    Raises:
        InputError: there is none.
    """
    root = Path(root)
    if (root / "case.json").is_file():
        return [root]
    folders = sorted(path.parent for path in root.rglob("case.json"))
    if not folders:
        raise InputError(f"no case folder in {root.name}: none has a case.json; make some with 'fluoro-reg simulate'")
    return folders


def name_of_ct(path: Path | str) -> str:
    """What to call a CT that nobody has named: its folder, or its file without the suffix."""
    path = Path(path).resolve()
    return path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem


def read_case(folder: Path | str) -> RegistrationCase:
    """Reads and checks a case folder; the CT and the image must exist, their content is not looked at.

    Raises:
        InputError: a missing or malformed file.
    """
    folder = Path(folder)
    content = read_json(folder / "case.json")
    initial = folder / "initial.json"
    return RegistrationCase(
        folder=folder,
        ct=_existing(folder, content, "ct", default="ct"),
        image=_existing(folder, content, "image", default=None),
        intensity=_intensity(content.get("intensity", Intensity.AUTO.value)),
        intrinsics=read_camera(folder / "camera.json"),
        initial=read_pose(initial) if initial.exists() else None,
        truth=read_pose(folder / "truth.json"),
        landmarks_patient=read_landmarks(folder / "landmarks.json"),
        ct_name=_word(content, "ct_name"),
        variant=_word(content, "variant"),
        start_band_mm=_band(content),
        frame=_frame(content),
    )


def write_case(case: RegistrationCase, pixels: UInt16[np.ndarray, "height width"] | None = None) -> None:
    """Writes the case's folder with its image as a 16-bit PNG; without pixels, the image is a file that is there already.

    CT and image are referred to by relative paths.
    """
    case.folder.mkdir(parents=True, exist_ok=True)
    if pixels is not None:
        Image.fromarray(pixels).save(case.image)
    write_camera(case.folder / "camera.json", case.intrinsics)
    if case.initial is not None:
        write_pose(case.folder / "initial.json", case.initial)
    write_pose(case.folder / "truth.json", case.truth)
    write_landmarks(case.folder / "landmarks.json", case.landmarks_patient)
    relative = (os.path.relpath(path.resolve(), case.folder.resolve()) for path in (case.ct, case.image))
    ct, image = (Path(path).as_posix() for path in relative)
    said = {"ct_name": case.ct_name, "variant": case.variant, "start_band_mm": case.start_band_mm, "frame": case.frame}
    known = {key: value for key, value in said.items() if value}
    write_json(case.folder / "case.json", {"ct": ct, "image": image, "intensity": case.intensity.value, **known})


def _existing(folder: Path, content: dict[str, Any], key: str, default: str | None) -> Path:
    entry = content.get(key, default)
    if not isinstance(entry, str) or not entry:
        raise InputError(f"case.json of {folder.name} must name its {key} by '{key}', a path relative to the case folder")
    path = folder / entry
    if not path.exists():
        raise InputError(f"case {folder.name} refers to the {key} {Path(entry).name}, which does not exist; correct case.json")
    return path


def _intensity(value: Any) -> Intensity:
    try:
        return Intensity(value)
    except ValueError as error:
        known = ", ".join(intensity.value for intensity in Intensity)
        raise InputError(f"case.json: 'intensity' must be one of {known}, got {value!r}") from error


def _word(content: dict[str, Any], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"case.json: '{key}' must be a text, got {value!r}")
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
        raise InputError(f"case.json: 'frame' must be the number of a frame, from 0, got {frame!r}")
    return frame
