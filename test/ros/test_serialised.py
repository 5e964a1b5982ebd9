"""Images are taken in as bytes: the header is read in place, and the message is made for the frame that is registered only."""

import struct

import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from fluoro_reg.errors import InputError
from fluoro_reg.ros.conversions import header_message
from fluoro_reg.ros.serialised import SerialisedImage

pytestmark = pytest.mark.ros
STAMP = 1_700_000_000_066_666_667


@pytest.mark.parametrize("message_type", [Image, CompressedImage])
@pytest.mark.parametrize("frame_id", ["carm", "", "carm/röntgen"])
def test_the_header_is_read_without_a_message(message_type, frame_id):
    message = message_type(header=header_message(STAMP, frame_id))
    image = SerialisedImage.of(serialize_message(message), message_type)
    assert (image.stamp_ns, image.frame_id) == (STAMP, frame_id)
    assert image.message() == message


def test_big_endian_messages_are_read_too():
    data = b"\x00\x00\x00\x00" + struct.pack(">iII", 12, 5, 5) + b"carm\x00" + bytes(20)
    image = SerialisedImage.of(data, Image)
    assert (image.stamp_ns, image.frame_id) == (12_000_000_005, "carm")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x01",
        b"\x00\x07\x00\x00" + bytes(40),
        b"\x00\x01\x00\x00" + struct.pack("<iII", 1, 2, 0) + bytes(40),
        b"\x00\x01\x00\x00" + struct.pack("<iII", 1, 2, 2**31) + bytes(40),
        b"\x00\x01\x00\x00" + struct.pack("<iII", 1, 2, 3) + b"\xff\xfe\x00" + bytes(40),
    ],
    ids=["nothing", "short", "encapsulation", "no frame", "long frame", "no text"],
)
def test_other_bytes_are_an_input_error(data):
    with pytest.raises(InputError, match="header"):
        SerialisedImage.of(data, Image)


@pytest.mark.parametrize("length", [40, 60, -1])
def test_a_message_that_ends_early_is_an_input_error(length):
    message = Image(header=header_message(STAMP, "carm"), height=4, width=4, encoding="mono8", step=4, data=bytes(16))
    image = SerialisedImage.of(serialize_message(message)[:length], Image)
    with pytest.raises(InputError, match="ends early or contradicts itself; check its publisher"):
        image.message()
