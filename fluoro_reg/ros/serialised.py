"""Image messages as bytes: their stamp and frame are read where they are, and the rest only for the frame that is registered.

Most images of a fast camera are replaced in the mailbox before anybody looks at them. Making a Python message of each would
cost more than everything else that the executor does for them. A message begins, after four bytes that name the encapsulation,
with its header: seconds, nanoseconds, and the length and characters of the frame (OMG DDS-XTypes 1.3, 7.4).
"""

import struct
from dataclasses import dataclass

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from fluoro_reg.errors import InputError

_NS_PER_S = 1_000_000_000
_STAMP_AND_LENGTH = {0: ">iII", 1: "<iII"}  # by the second byte of the encapsulation
_FRAME_BEGINS = 16
_LONGEST_FRAME = 4096


@dataclass(frozen=True, slots=True)
class SerialisedImage:
    """The bytes of an image message, with what its header says."""

    data: bytes
    message_type: type
    stamp_ns: int
    frame_id: str

    @staticmethod
    def of(data: bytes, message_type: type) -> "SerialisedImage":
        """Read the header of a message.

        Raises:
            InputError: the bytes are not a message with a header.
        """
        try:
            seconds, nanoseconds, length = struct.unpack_from(_STAMP_AND_LENGTH[data[1]], data, 4)
            if not 1 <= length <= min(_LONGEST_FRAME, len(data) - _FRAME_BEGINS):
                raise InputError("an image message has a header that cannot be read; check its publisher")
            frame_id = data[_FRAME_BEGINS : _FRAME_BEGINS + length - 1].decode("utf-8")
        except (struct.error, KeyError, IndexError, UnicodeDecodeError) as error:
            raise InputError("an image message has a header that cannot be read; check its publisher") from error
        return SerialisedImage(data, message_type, seconds * _NS_PER_S + nanoseconds, frame_id)

    def message(self) -> Image | CompressedImage:
        """Return the message.

        Raises:
            InputError: the bytes are not a message.
        """
        try:
            return deserialize_message(self.data, self.message_type)
        except RuntimeError as error:  # of the middleware
            raise InputError("an image message ends early or contradicts itself; check its publisher") from error
