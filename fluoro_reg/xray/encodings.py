"""Pixels of sensor_msgs messages, without ROS. The node and the replay of bags share these functions.

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
