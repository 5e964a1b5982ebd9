"""Reader of X-ray files (PNG, TIFF, npy and DICOM), with a camera from camera.json or from the DICOM file.

The format follows from the content. The camera describes the pixels in the orientation of the detector. If a DICOM file was
rotated or mirrored for display (FieldOfViewRotation, FieldOfViewHorizontalFlip), this is undone first, because no pinhole
camera with positive focal lengths describes a mirrored image. Files without these tags are not changed. A given camera.json
takes precedence over the geometry of the DICOM file, which is nominal.

The reader of DICOM is imported when the first DICOM file is read, because pydicom takes a fifth of a second.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray import raster
from fluoro_reg.xray.camera_check import camera_disagreement, centre_warnings
from fluoro_reg.xray.distortion import Distortion, undistort
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.stored import StoredImage

MAXIMUM_NAN_FRACTION = 0.05


def read_xray(
    path: Path | str,
    intrinsics: CameraIntrinsics | None,
    intensity: Intensity = Intensity.AUTO,
    frame: int = 0,
    distortion: Distortion | None = None,
) -> XrayImage:
    """Read one X-ray with its camera, intensity and mask.

    Args:
        path: A PNG, TIFF, npy or DICOM file.
        intrinsics: The camera; None takes the geometry of the DICOM file.
        intensity: What the pixel values mean. Values other than AUTO take precedence over the file.
        frame: Index of the frame of a cine or the page of a TIFF.
        distortion: Distortion of the camera, which is undone in the pixels.

    Raises:
        InputError: The file is not an X-ray, is damaged, has no geometry or too many NaN, or its size is not that of
            `intrinsics`.
    """
    path = Path(path)
    stored = read_stored(path, intensity, frame)
    camera = intrinsics or stored.intrinsics
    if camera is None:
        raise InputError(f"{path.name} has no geometry ({stored.why_no_intrinsics}); give a camera.json")
    warnings = list(stored.warnings)
    if intrinsics is not None and stored.intrinsics is not None:
        warnings += camera_disagreement(intrinsics, stored.intrinsics, path.name)
    image = xray_from_pixels(stored.pixels, camera, stored.intensity, stored.mask, path.name, distortion, warnings)
    return dataclasses.replace(
        image,
        intensity_from_header=stored.intensity_from_header,
        inverse_sum=stored.inverse_sum,
        nominal_view=stored.nominal_view,
    )


def read_cine(
    path: Path | str, intrinsics: CameraIntrinsics | None, intensity: Intensity = Intensity.AUTO
) -> Iterator[XrayImage]:
    """Iterate over the frames of a cine or the pages of a TIFF; only one is kept in memory."""
    for frame in range(n_frames(path)):
        yield read_xray(path, intrinsics, intensity, frame)


def n_frames(path: Path | str) -> int:
    """Return the number of frames in a file, without decoding pixels."""
    path = Path(path)
    kind = _format(path)
    if kind == "npy":
        return 1
    if kind == "raster":
        return raster.count_pages(path)
    from fluoro_reg.xray.dicom.reader import count_frames

    return count_frames(path)


def frame_times_ns(path: Path | str) -> list[int]:
    """Return the time of each frame in ns after the first, without decoding pixels; `DEFAULT_RATE_HZ` if it is unknown."""
    from fluoro_reg.xray.dicom.reader import read_times_ns
    from fluoro_reg.xray.dicom.times import DEFAULT_RATE_HZ

    path = Path(path)
    if _format(path) == "dicom":
        return read_times_ns(path)
    return [round(1e9 * n / DEFAULT_RATE_HZ) for n in range(n_frames(path))]


def xray_from_pixels(
    pixels: np.ndarray,
    intrinsics: CameraIntrinsics,
    intensity: Intensity = Intensity.AUTO,
    mask: np.ndarray | None = None,
    name: str = "the image",
    distortion: Distortion | None = None,
    warnings: Sequence[str] = (),
) -> XrayImage:
    """Create an `XrayImage` from pixels; all files and messages use this function. NaN and infinity are masked.

    `distortion`, if it is given, is undone in the pixels and in the mask. `warnings` are kept with the image.

    Raises:
        InputError: The pixels are not 2-D, do not have the size of `intrinsics`, or are not finite in more than 5 %.
    """
    if pixels.ndim != 2:
        raise InputError(f"{name} must be one grey image, got pixels of shape {pixels.shape}")
    height, width = pixels.shape
    if (width, height) != (intrinsics.width, intrinsics.height):
        raise InputError(
            f"{name} is {width} x {height} pixels, but its camera is for {intrinsics.width} x {intrinsics.height}; "
            "give the camera of this image"
        )
    values = np.array(pixels, dtype=np.float32)
    usable = np.ones(values.shape, dtype=bool) if mask is None else mask.copy()
    finite = np.isfinite(values)
    if not finite.all():
        _check_nan_fraction(1 - float(finite.mean()), name)
        values[~finite] = np.median(values[finite])
        usable &= finite
    if distortion is not None:
        values, usable = undistort(values, usable, intrinsics, distortion)
    all_warnings = (*warnings, *centre_warnings(intrinsics))
    return XrayImage(torch.from_numpy(values), intrinsics, intensity, torch.from_numpy(usable), all_warnings)


def _check_nan_fraction(fraction: float, name: str) -> None:
    if fraction == 1:
        raise InputError(f"{name} contains only NaN or infinity; export it again")
    if fraction > MAXIMUM_NAN_FRACTION:
        raise InputError(f"{name} contains NaN or infinity in {fraction:.0%} of its pixels, more than 5 %; export it again")


def read_stored(path: Path, intensity: Intensity = Intensity.AUTO, frame: int = 0) -> StoredImage:
    """Return the content of an X-ray file, with the camera of the file or the reason why it has none.

    Raises:
        InputError: The file is not an X-ray, or it is damaged.
    """
    kind = _format(path)
    if kind == "dicom":
        from fluoro_reg.xray.dicom.reader import read_dicom

        return read_dicom(path, intensity, frame)
    if kind == "raster":
        stored = raster.read_png_or_tiff(path, frame)
    else:
        raster.check_frame(frame, 1, path.name)
        stored = raster.read_npy(path)
    return dataclasses.replace(stored, intensity=intensity)


def _format(path: Path) -> str:
    """Detect the format from the content, DICOM first: its preamble may look like a TIFF, as in the NEMA samples."""
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
        return "raster"
    return "npy" if head.startswith(b"\x93NUMPY") else "dicom"
