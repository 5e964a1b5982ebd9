"""The part of tf2_ros that the examples use, for machines without it: the tests put this folder on the path there.

It interpolates as tf2 does, between any two transforms of the last ten seconds.
"""

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from fluoro_reg.errors import InputError
from fluoro_reg.ros.conversions import transform_message
from fluoro_reg.ros.frame_tree import KEPT_S, FrameTree


class TransformException(Exception):  # noqa: N818 - tf2's name
    """A transform is missing."""


class Buffer:
    """Transforms, and lookups between any two frames."""

    def __init__(self) -> None:
        self.tree = FrameTree(KEPT_S)

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        try:
            found = self.tree.lookup(target_frame, source_frame, time.nanoseconds, 0.0)
        except InputError as error:
            raise TransformException(str(error)) from error
        return transform_message(found, time.nanoseconds, target_frame, source_frame)


class TransformListener:
    """Fills a buffer from /tf and /tf_static."""

    def __init__(self, buffer: Buffer, node: Node) -> None:
        self._buffer = buffer
        latched = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(TFMessage, "/tf", lambda message: self._add(message, False), 100)
        node.create_subscription(TFMessage, "/tf_static", lambda message: self._add(message, True), latched)

    def _add(self, message: TFMessage, is_static: bool) -> None:
        for transform in message.transforms:
            self._buffer.tree.add(transform, is_static)
