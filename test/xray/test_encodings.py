"""Messages of ROS and rosbags: all encodings, padded rows, both byte orders, and errors."""

import array
import io
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fluoro_reg.errors import InputError
from fluoro_reg.xray.encodings import pixels_from_compressed, pixels_from_message

GREY = {
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


def message(pixels, encoding, padding=0, big=False, container="array"):
    """Return an Image of `pixels` (height, width[, channels]) with `padding` arbitrary bytes after each row."""
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).reshape(len(pixels), -1)
    data = b"".join(row.tobytes() + b"\xa5" * padding for row in rows)
    containers = {"array": array.array("B", data), "ndarray": np.frombuffer(data, np.uint8), "bytes": data, "list": list(data)}
    step = len(data) // len(pixels)
    height, width = pixels.shape[:2]
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, step=step, is_bigendian=int(big), data=containers[container]
    )


@settings(max_examples=80, deadline=None)
@given(
    encoding=st.sampled_from(sorted(GREY)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.integers(0, 7),
    big=st.booleans(),
    container=st.sampled_from(["array", "ndarray", "bytes", "list"]),
    seed=st.integers(0, 1000),
)
def test_grey_pixels_are_decoded_exactly(encoding, size, padding, big, container, seed):
    kind = np.dtype(GREY[encoding])
    values = np.random.default_rng(seed).integers(0, 120, size)
    pixels = (values * (1.5 if kind.kind == "f" else 1)).astype(kind)
    decoded = pixels_from_message(message(pixels, encoding, padding, big, container))
    assert np.array_equal(decoded, pixels) and decoded.dtype.isnative


def test_native_grey_is_not_copied():
    sent = message(np.zeros((4, 6), dtype=np.uint16), "mono16", container="ndarray")
    assert np.shares_memory(pixels_from_message(sent), sent.data)


def test_twelve_bits_in_mono16_are_not_rescaled():
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert pixels_from_message(message(pixels, "mono16")).max() == 4095


@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 3]), ("bgra8", [2, 1, 0, 3])]
)
def test_equal_channels_give_that_grey_and_coloured_pixels_their_luminance(encoding, order):
    grey = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    colour = np.repeat(grey[..., None], 4, axis=2)
    assert np.array_equal(pixels_from_message(message(colour[..., order], encoding, 3)), grey)
    colour[2, 3, :3] = (200, 100, 50)  # red, green, blue
    decoded = pixels_from_message(message(colour[..., order], encoding, 3))
    assert decoded[2, 3] == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=1e-3)
    assert decoded[0, 0] == pytest.approx(grey[0, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoding": "bayer_rggb8"}, "'bayer_rggb8' is not supported"),
        ({"encoding": ""}, "is not supported"),
        ({"step": 5}, "step of 5 bytes"),
        ({"height": 5}, "instead of 5 rows"),
        ({"width": 0}, "is empty"),
        ({"data": array.array("B")}, "contains 0 bytes"),
    ],
)
def test_inconsistent_messages_are_rejected(changes, sentence):
    sent = message(np.zeros((4, 6), dtype=np.uint8), "mono8")
    vars(sent).update(changes)
    with pytest.raises(InputError, match=sentence):
        pixels_from_message(sent)


def test_the_last_row_needs_no_padding():
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    sent = message(pixels, "mono8", padding=5)
    sent.data = sent.data[:-5]
    assert np.array_equal(pixels_from_message(sent), pixels)


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint8), ("PNG", np.uint16), ("TIFF", np.uint16)])
def test_lossless_compression_keeps_every_bit(kind, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (12, 17)).astype(dtype)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    sent = SimpleNamespace(format="mono16; png compressed", data=array.array("B", stream.getvalue()))
    assert np.array_equal(pixels_from_compressed(sent), pixels)


def test_colour_jpeg_is_converted_to_approximate_grey():
    grey = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (64, 1))
    stream = io.BytesIO()
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(stream, "JPEG", quality=95)
    decoded = pixels_from_compressed(SimpleNamespace(format="jpeg", data=stream.getvalue()))
    assert np.abs(decoded.astype(float) - grey).max() < 6


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_as_compressed_data_are_rejected(data):
    with pytest.raises(InputError, match="neither JPEG, PNG nor TIFF"):
        pixels_from_compressed(SimpleNamespace(format="jpeg", data=data))


@pytest.mark.parametrize(("mode", "file_format"), [("P", "PNG"), ("CMYK", "JPEG")])
def test_a_compressed_image_that_is_not_grey_is_rejected(mode, file_format):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 90)).convert(mode).save(stream, file_format)
    with pytest.raises(InputError, match=f"mode {mode}"):
        pixels_from_compressed(SimpleNamespace(format=file_format, data=stream.getvalue()))
