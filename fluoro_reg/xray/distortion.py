"""Lens distortion, such as the pincushion of an image intensifier, undone in the pixels by OpenCV.

A registration needs straight rays. `Distortion` holds the coefficients of ROS's CameraInfo and of OpenCV. They act on
coordinates with focal length 1, so that a crop or binning of the image does not change them. The undistorted image has the same
K and size. What it shows from outside the distorted image is masked, and so is what lies beyond the radius at which the model
folds back: a polynomial that was fitted in the image says nothing about the outside.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float, Float32

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics

_COUNTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14)}  # numbers of coefficients; 12 adds prisms, 14 a tilt
_ZERO = 1e-12
_WHOLLY_USABLE = 0.999  # a pixel that is interpolated from a masked one is masked
_RADII = 2048
_INSTALL = 'pip install "fluoro_reg[opencv]"'


@dataclass(frozen=True, slots=True)
class Distortion:
    """The distortion of a camera: `plumb_bob` (k1 k2 p1 p2 k3) or `rational_polynomial` (k1 k2 p1 p2 k3 k4 k5 k6 ...)."""

    model: str
    coefficients: tuple[float, ...]


def parse_distortion(model: str, coefficients: Sequence[float], where: str) -> Distortion | None:
    """Return the distortion that a camera.json or a CameraInfo states, or None if there is none (all coefficients are 0).

    Args:
        model: plumb_bob or rational_polynomial; empty for plumb_bob, as some drivers write it.
        coefficients: In the order of OpenCV.
        where: Who states it, for error messages.

    Raises:
        InputError: The model is unknown, or the coefficients are not finite or not as many as the model has.
    """
    values = tuple(float(value) for value in coefficients)
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"{where} has distortion coefficients that are not finite; calibrate the camera again")
    if not any(abs(value) > _ZERO for value in values):
        return None
    if (model or "plumb_bob") not in _COUNTS:
        known = " or ".join(_COUNTS)
        raise InputError(f"{where} has an unknown distortion model; rectify the image, or calibrate it as {known}")
    name = model or "plumb_bob"
    if len(values) not in _COUNTS[name]:
        counts = " or ".join(str(count) for count in _COUNTS[name])
        raise InputError(f"{where} has {len(values)} distortion coefficients, but {name} has {counts}; correct D")
    return Distortion(name, values)


def refused_distortion(where: str) -> InputError:
    """Return the error for distortion that is not to be undone."""
    return InputError(
        f"{where} has lens distortion (D is not zero); undo it in the pixels with --undistort of register and replay, or with "
        "undistort: true of the node, or rectify the image and give D = 0"
    )


def undistort(
    pixels: Float32[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    camera: CameraIntrinsics,
    distortion: Distortion,
) -> tuple[Float32[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Return the pixels and the mask that the camera would have without distortion.

    Raises:
        InputError: OpenCV is not installed, or hardly any pixel is left.
    """
    cv2 = load_opencv()
    columns, rows, within = _maps(camera, distortion)
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": 0.0}
    weights = cv2.remap(mask.astype(np.float32), columns, rows, cv2.INTER_LINEAR, **border)
    values = cv2.remap(np.where(mask, pixels, 0).astype(np.float32), columns, rows, cv2.INTER_LINEAR, **border)
    usable = (weights > _WHOLLY_USABLE) & within
    if not usable.any():
        raise InputError("undoing the distortion leaves no pixel of the image; check D and the principal point of K")
    values = values / np.maximum(weights, _WHOLLY_USABLE)
    return np.where(usable, values, np.median(values[usable])).astype(np.float32), usable


def load_opencv() -> ModuleType:
    """Return OpenCV.

    Raises:
        InputError: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError(f"undoing distortion needs OpenCV: {_INSTALL}") from error
    return cv2


@functools.lru_cache(maxsize=4)
def _maps(
    camera: CameraIntrinsics, distortion: Distortion
) -> tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Return where each undistorted pixel is in the distorted image (column, row), and where the model holds."""
    cv2 = load_opencv()
    k, d = np.array(camera.k).reshape(3, 3), np.array(distortion.coefficients)
    columns, rows = cv2.initUndistortRectifyMap(k, d, np.eye(3), k, (camera.width, camera.height), cv2.CV_32FC1)
    return columns, rows, _within_the_model(camera, distortion)


def _within_the_model(camera: CameraIntrinsics, distortion: Distortion) -> Bool[np.ndarray, "height width"]:
    """Return the undistorted pixels up to the radius at which the distorted radius stops growing."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    radius = np.hypot(x[None, :], y[:, None])
    radii = np.linspace(0, float(radius.max()), _RADII)
    falling = np.flatnonzero(np.diff(radii * _radial_factor(radii, distortion)) <= 0)
    limit = radii[falling[0]] if len(falling) else np.inf
    return radius <= limit


def _radial_factor(radii: Float[np.ndarray, "n"], distortion: Distortion) -> Float[np.ndarray, "n"]:
    """Return the distorted radius over the undistorted one, without tangential terms."""
    k1, k2, _, _, k3, k4, k5, k6 = (*distortion.coefficients, *(0.0,) * 8)[:8]
    square = radii**2
    powers = np.stack([square, square**2, square**3])
    return (1 + np.array([k1, k2, k3]) @ powers) / (1 + np.array([k4, k5, k6]) @ powers)
