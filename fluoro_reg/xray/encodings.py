"""Pixels and intrinsics of sensor_msgs messages, without ROS. The node and the replay of bags share these functions.

Any object with the fields of a message is accepted: those of rclpy (data is array.array('B')), of rosbags (data is an ndarray)
or of a test. cv_bridge is not used, because it rescales mono16 to mono8 and does not accept 16UC1 as mono16. Here, `step` may
exceed the length of a row, `is_bigendian` is respected, and the length is checked. Bytes that are already native grey pixels
are not copied.
"""

import io
from typing import Any

import numpy as np
from jaxtyping import Num
from PIL import Image, UnidentifiedImageError

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.xray.distortion import Distortion, parse_distortion, refused_distortion

_GREY = {
    "mono8": "u1",
    "8UC1": "u1",
    "8SC1": "i1",
    "mono16": "u2",
    "16UC1": "u2",
    "16SC1": "i2",
    "32SC1": "i4",
    "32FC1": "f4",
    "64FC1": "f8",
}
_COLOUR = {  # encoding: (type, channels, indices of red, green, blue)
    "rgb8": ("u1", 3, (0, 1, 2)),
    "bgr8": ("u1", 3, (2, 1, 0)),
    "8UC3": ("u1", 3, (2, 1, 0)),
    "rgba8": ("u1", 4, (0, 1, 2)),
    "bgra8": ("u1", 4, (2, 1, 0)),
    "8UC4": ("u1", 4, (2, 1, 0)),
    "rgb16": ("u2", 3, (0, 1, 2)),
    "bgr16": ("u2", 3, (2, 1, 0)),
}
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights of analogue frame grabbers


def pixels_from_message(message: Any) -> Num[np.ndarray, "height width"]:
    """Return the grey pixels of a sensor_msgs/Image in native byte order; colour is converted to luminance.

    Raises:
        InputError: The encoding is not supported, or `data`, `step` and the size are inconsistent.
    """
    encoding = message.encoding
    if encoding in _GREY:
        return _samples(message, _GREY[encoding], 1)[..., 0]
    if encoding in _COLOUR:
        kind, channels, indices = _COLOUR[encoding]
        return _luminance(_samples(message, kind, channels)[..., list(indices)])
    known = ", ".join([*_GREY, *_COLOUR])
    raise InputError(f"image encoding '{encoding}' is not supported; publish the X-ray as one of {known}")


def pixels_from_compressed(message: Any) -> Num[np.ndarray, "height width"]:
    """Return the grey pixels of a sensor_msgs/CompressedImage (JPEG, PNG or TIFF); 16-bit pixels are kept.

    Raises:
        InputError: The data are not an image, or it is neither grey nor RGB (a palette, CMYK).
    """
    data = _buffer(message.data)
    # the format follows from the content, because publishers fill the field `format` inconsistently
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF")) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("the compressed image is neither JPEG, PNG nor TIFF, or it is damaged; check the publisher") from error
    if mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "1"):
        raise InputError(f"the compressed image has mode {mode}, which is neither grey nor RGB; publish one of these")
    if pixels.ndim == 3:
        return _luminance(pixels[..., :3]) if pixels.shape[2] >= 3 else pixels[..., 0]
    return pixels


def intrinsics_from_message(
    camera_info: Any, source_to_detector_mm: float | None = None, allow_distortion: bool = False
) -> CameraIntrinsics:
    """Return the camera of the image of a sensor_msgs/CameraInfo: K at full resolution, then ROI, then binning (REP-104).

    Args:
        camera_info: The message.
        source_to_detector_mm: The distance of the focal spot, which the message does not state.
        allow_distortion: Whether D may differ from zero, because `distortion_from_message` is undone in the pixels.

    Raises:
        InputError: K is zero or not finite, the image is distorted, or size, binning and ROI are inconsistent.
    """
    k = [float(x) for x in camera_info.k]
    if not any(k):
        raise InputError("CameraInfo has K = 0, which means uncalibrated; calibrate the C-arm and publish its K")
    if distortion_from_message(camera_info) is not None and not allow_distortion:
        raise refused_distortion("CameraInfo")
    full = CameraIntrinsics.from_k(int(camera_info.width), int(camera_info.height), k, source_to_detector_mm)
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


def _samples(message: Any, kind: str, channels: int) -> Num[np.ndarray, "height width channels"]:
    """Return a view of the bytes of the message as rows of pixels, converted to native byte order if necessary."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    order = np.dtype(("<", ">")[bool(message.is_bigendian)] + kind)
    row = width * channels * order.itemsize
    if height <= 0 or width <= 0:
        raise InputError(f"the image message is empty ({width} x {height}); check the publisher")
    if step < row:
        raise InputError(
            f"the image message has a step of {step} bytes, but {width} pixels of {message.encoding} need {row}; "
            "check the publisher"
        )
    data = _buffer(message.data)
    if len(data) < (height - 1) * step + row:
        raise InputError(
            f"the image message contains {len(data)} bytes instead of {height} rows of {step}; check the publisher"
        )
    shape, strides = (height, width, channels), (step, channels * order.itemsize, order.itemsize)
    view = np.ndarray(shape, order, buffer=data, strides=strides)
    return view if order.isnative else view.astype(order.newbyteorder("="))


def _buffer(data: Any) -> memoryview:
    """Return an array.array, bytes, ndarray or list of bytes as bytes, without a copy where possible."""
    return memoryview(bytes(data) if isinstance(data, list) else data).cast("B")


def _luminance(colour: Num[np.ndarray, "height width 3"]) -> Num[np.ndarray, "height width"]:
    """Return the grey itself if the channels are equal everywhere, else the luminance (coloured overlays)."""
    red, green, blue = (colour[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return green
    return colour.astype(np.float32) @ np.array(_LUMINANCE, dtype=np.float32)
