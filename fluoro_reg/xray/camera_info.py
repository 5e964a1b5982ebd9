"""The camera of a sensor_msgs/CameraInfo, without ROS. The node and the replay of bags share these functions.

CameraInfo states the focal lengths twice: K and D describe the raw image, P the rectified one. Without distortion both are the
same. Where they differ, only the user knows which of them these pixels have.
"""

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.camera_check import camera_disagreement
from fluoro_reg.xray.distortion import Distortion, parse_distortion, refused_distortion

_FOCAL_TOLERANCE = 1e-3
_CENTRE_TOLERANCE_PX = 0.1
_NO_PINHOLE = ("equidistant", "fisheye", "kannala_brandt4")  # bend straight rays even where all coefficients are zero


class CameraMatrix(str, enum.Enum):
    """Which matrix of CameraInfo holds for the pixels."""

    AUTO = "auto"  # K; it is an error if D is not zero or P differs from K
    K = "k"  # K, whatever P is: the raw image
    P = "p"  # the left 3 x 3 of P, whatever D is: the image is rectified already


@dataclass(frozen=True, slots=True)
class CameraInfoRules:
    """How to read CameraInfo: which matrix holds, and whether the distortion that it states is undone in the pixels."""

    matrix: CameraMatrix = CameraMatrix.AUTO
    undistort: bool = False


@dataclass(frozen=True, slots=True)
class MessageCamera:
    """The camera of an image, the distortion to undo in its pixels (None: none), and sentences for the user."""

    intrinsics: CameraIntrinsics
    distortion: Distortion | None
    warnings: tuple[str, ...]


def camera_of_message(camera_info: Any, image_size: tuple[int, int], rules: CameraInfoRules) -> MessageCamera:
    """Return the camera of an image of `image_size` (width, height) by its CameraInfo.

    Raises:
        InputError: See `intrinsics_from_message`.
    """
    intrinsics = intrinsics_from_message(
        camera_info, allow_distortion=rules.undistort, matrix=rules.matrix, image_size=image_size
    )
    undone = rules.undistort and rules.matrix is not CameraMatrix.P
    distortion = distortion_from_message(camera_info) if undone else None
    warnings = []
    if not int(camera_info.width):
        warnings.append(f"CameraInfo states no size; K is taken to be that of the image of {image_size[0]} x {image_size[1]}")
    return MessageCamera(intrinsics, distortion, tuple(warnings))


def disagreement_with(given: CameraIntrinsics, camera_info: Any, image_size: tuple[int, int]) -> list[str]:
    """Return a warning with both values if a given camera differs from that of a CameraInfo, which it takes precedence over."""
    try:
        stated = intrinsics_from_message(camera_info, allow_distortion=True, matrix=CameraMatrix.K, image_size=image_size)
    except InputError:
        return []  # an unusable CameraInfo is the reason to give another camera
    return camera_disagreement(given, stated, "CameraInfo")


def intrinsics_from_message(
    camera_info: Any,
    source_to_detector_mm: float | None = None,
    allow_distortion: bool = False,
    matrix: CameraMatrix = CameraMatrix.AUTO,
    image_size: tuple[int, int] | None = None,
) -> CameraIntrinsics:
    """Return the camera of the image of a CameraInfo: its matrix at full resolution, then ROI, then binning (REP-104).

    Args:
        camera_info: The message.
        source_to_detector_mm: The distance of the focal spot, which the message does not state.
        allow_distortion: Whether D may differ from zero, because `distortion_from_message` is undone in the pixels.
        matrix: Which matrix of the message holds.
        image_size: Width and height of the image, which are those of a CameraInfo that states no size.

    Raises:
        InputError: K is zero or not finite, K, D and P contradict each other, or size, binning and ROI are inconsistent.
    """
    k = _chosen_matrix(camera_info, matrix, allow_distortion)
    width, height = _size(camera_info, image_size)
    full = CameraIntrinsics.from_k(width, height, k, source_to_detector_mm)
    roi = camera_info.roi
    left, top = int(roi.x_offset), int(roi.y_offset)
    width, height = int(roi.width) or full.width - left, int(roi.height) or full.height - top
    if width <= 0 or height <= 0 or left + width > full.width or top + height > full.height:
        raise InputError(
            f"CameraInfo's ROI {width} x {height} at ({left}, {top}) exceeds its {full.width} x {full.height} image"
        )
    cropped = full.cropped(left, top, width, height)
    bin_x, bin_y = max(int(camera_info.binning_x), 1), max(int(camera_info.binning_y), 1)
    whole = cropped.cropped(0, 0, width // bin_x * bin_x, height // bin_y * bin_y)
    if whole.width == 0 or whole.height == 0:
        raise InputError(f"CameraInfo's binning {bin_x} x {bin_y} leaves no pixel of its {width} x {height} image; correct it")
    return whole.resized(width // bin_x, height // bin_y)


def distortion_from_message(camera_info: Any) -> Distortion | None:
    """Return the distortion of a sensor_msgs/CameraInfo; None if D is zero or empty.

    Raises:
        InputError: The model is unknown, or D is not finite or does not fit the model.
    """
    return parse_distortion(str(camera_info.distortion_model), list(camera_info.d), "CameraInfo")


def _chosen_matrix(camera_info: Any, matrix: CameraMatrix, allow_distortion: bool) -> list[float]:
    k, p = [float(x) for x in camera_info.k], _rectified_matrix(camera_info)
    if matrix is CameraMatrix.P:
        if p is None:
            raise InputError("CameraInfo has P = 0, so that no rectified image is described; take its K with camera matrix k")
        return p
    if not any(k):
        raise InputError("CameraInfo has K = 0, which means uncalibrated; calibrate the C-arm and publish its K")
    if len(camera_info.d) and str(camera_info.distortion_model) in _NO_PINHOLE:
        raise InputError("CameraInfo has a fisheye model, whose rays are bent even with D = 0; rectify the image")
    distorted = distortion_from_message(camera_info) is not None
    if distorted and not allow_distortion:
        hint = "; if it is rectified already, take P with --camera-matrix p (camera_matrix of the node)" if p else ""
        raise InputError(f"{refused_distortion('CameraInfo')}{hint}")
    if matrix is CameraMatrix.AUTO and not distorted and p is not None and not _same(k, p):
        raise InputError(
            f"CameraInfo contradicts itself: K has {_text(k)}, P has {_text(p)}, and D is zero; say which holds for these "
            "pixels with --camera-matrix k or p (camera_matrix of the node)"
        )
    return k


def _rectified_matrix(camera_info: Any) -> list[float] | None:
    """Return the left 3 x 3 of P, row-major; None if P is zero or absent, which means that it is not stated."""
    values = np.array([float(x) for x in camera_info.p])
    return values.reshape(3, 4)[:, :3].ravel().tolist() if values.size == 12 and values.any() else None


def _same(k: list[float], p: list[float]) -> bool:
    focal = all(abs(k[i] - p[i]) <= _FOCAL_TOLERANCE * abs(k[i]) for i in (0, 4))
    return focal and all(abs(k[i] - p[i]) <= _CENTRE_TOLERANCE_PX for i in (2, 5))


def _text(k: list[float]) -> str:
    return f"focal lengths {k[0]:.1f} and {k[4]:.1f} px and centre ({k[2]:.1f}, {k[5]:.1f})"


def _size(camera_info: Any, image_size: tuple[int, int] | None) -> tuple[int, int]:
    width, height = int(camera_info.width), int(camera_info.height)
    if width > 0 and height > 0:
        return width, height
    roi = camera_info.roi
    whole = not any(int(x) for x in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    whole &= max(int(camera_info.binning_x), int(camera_info.binning_y)) <= 1
    if width == height == 0 and whole and image_size is not None:
        return image_size
    raise InputError(
        f"CameraInfo has the size {width} x {height}; publish the width and height of the image at full resolution"
    )
