"""X-ray files as `XrayImage`: PNG, TIFF, npy and DICOM, told apart by content, with a camera from camera.json or the DICOM.

Which pixels a camera.json describes: those that the detector saw. A DICOM that says it was rotated or mirrored for display
(FieldOfViewRotation, FieldOfViewHorizontalFlip) is turned back first, whoever gives the camera, because no pinhole with
positive focal lengths describes a mirrored image. Files without those tags are taken as they are. A camera.json that is given
wins over the DICOM's own geometry, which is nominal.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray import raster
from fluoro_reg.xray.dicom import reader as dicom_reader
from fluoro_reg.xray.dicom.times import DEFAULT_RATE_HZ
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.stored import StoredImage

MAXIMUM_NAN_FRACTION = 0.05


def read_xray(
    path: Path | str, intrinsics: CameraIntrinsics | None, intensity: Intensity = Intensity.AUTO, frame: int = 0
) -> XrayImage:
    """Reads one X-ray (frame `frame` of a cine) with its camera, its meaning and its mask.

    `intrinsics` None takes the geometry from the DICOM. `intensity` other than AUTO wins over what the file says.

    Raises:
        InputError: not an X-ray, damaged, no geometry, a size that contradicts `intrinsics`, or mostly NaN.
    """
    path = Path(path)
    stored = _read_stored(path, intensity, frame)
    camera = intrinsics or stored.intrinsics
    if camera is None:
        raise InputError(f"{path.name} has no geometry ({stored.why_no_intrinsics}); give a camera.json")
    return xray_from_pixels(stored.pixels, camera, stored.intensity, stored.mask, path.name)


def read_cine(
    path: Path | str, intrinsics: CameraIntrinsics | None, intensity: Intensity = Intensity.AUTO
) -> Iterator[XrayImage]:
    """The frames of a cine or of a TIFF's pages, one after another; only one is held at a time."""
    for frame in range(n_frames(path)):
        yield read_xray(path, intrinsics, intensity, frame)


def n_frames(path: Path | str) -> int:
    """How many frames a file holds; pixels are not decoded."""
    path = Path(path)
    kind = _format(path)
    if kind == "npy":
        return 1
    return raster.count_pages(path) if kind == "picture" else dicom_reader.count_frames(path)


def frame_times_ns(path: Path | str) -> list[int]:
    """When each frame was taken, from the first one on; `DEFAULT_RATE_HZ` where the file does not say. Nothing is decoded."""
    path = Path(path)
    if _format(path) == "dicom":
        return dicom_reader.read_times_ns(path)
    return [round(1e9 * n / DEFAULT_RATE_HZ) for n in range(n_frames(path))]


def xray_from_pixels(
    pixels: np.ndarray,
    intrinsics: CameraIntrinsics,
    intensity: Intensity = Intensity.AUTO,
    mask: np.ndarray | None = None,
    name: str = "the image",
) -> XrayImage:
    """Checks pixels against their camera and masks NaN: the one door through which files and messages become an `XrayImage`.

    Raises:
        InputError: not 2-D, a size that contradicts `intrinsics`, or more than 5 % NaN.
    """
    if pixels.ndim != 2:
        raise InputError(f"{name} must be one grey image, its pixels have shape {pixels.shape}")
    height, width = pixels.shape
    if (width, height) != (intrinsics.width, intrinsics.height):
        raise InputError(
            f"{name} is {width} x {height} pixels but its camera says {intrinsics.width} x {intrinsics.height}; "
            "give the camera that belongs to this image"
        )
    values = np.array(pixels, dtype=np.float32)
    usable = np.ones(values.shape, dtype=bool) if mask is None else mask.copy()
    finite = np.isfinite(values)
    if not finite.all():
        _check_nan_share(1 - float(finite.mean()), name)
        values[~finite] = np.median(values[finite])
        usable &= finite
    return XrayImage(torch.from_numpy(values), intrinsics, intensity, torch.from_numpy(usable))


def _check_nan_share(share: float, name: str) -> None:
    if share == 1:
        raise InputError(f"{name} holds NaN or infinity throughout; export it again")
    if share > MAXIMUM_NAN_FRACTION:
        raise InputError(f"{name} holds NaN or infinity in {share:.0%} of its pixels, more than 5 %; export it again")


def _read_stored(path: Path, intensity: Intensity, frame: int) -> StoredImage:
    kind = _format(path)
    if kind == "dicom":
        return dicom_reader.read_dicom(path, intensity, frame)
    if kind == "picture":
        stored = raster.read_png_or_tiff(path, frame)
    else:
        raster.check_frame(frame, 1, path.name)
        stored = raster.read_npy(path)
    return dataclasses.replace(stored, intensity=intensity)


def _format(path: Path) -> str:
    """By content, not suffix. DICOM first: its free preamble may pose as a TIFF, and in the NEMA samples it does."""
    if path.is_dir():
        raise InputError(f"{path.name} is a folder; give one X-ray file")
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    if not head:
        raise InputError(f"{path.name} is empty; copy or export it again")
    if head[128:] == b"DICM":
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "picture"
    return "npy" if head.startswith(b"\x93NUMPY") else "dicom"
