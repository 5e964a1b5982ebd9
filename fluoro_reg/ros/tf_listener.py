"""`tf_listener`: prints one JSON line for each transform on /tf, with the image's stamp and the pose in the core's units.

It is what another program sees of the node, made visible: `ros2 topic echo` for machines without ros2cli, and the demo's
witness.
Transforms are those of the messages; nothing is interpolated.
"""

import argparse
import json
import sys
import time

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.utilities import remove_ros_args
from tf2_msgs.msg import TFMessage

from fluoro_reg.errors import InputError
from fluoro_reg.ros.conversions import stamp_ns, transform_from_message

DISCOVERY_POLL_S = 0.1


class TfListener(Node):
    """Prints what arrives; `child` selects one child frame."""

    def __init__(self, child: str | None) -> None:
        super().__init__("tf_listener")
        self._child = child
        self.received = 0
        self.create_subscription(TFMessage, "/tf", self._on_tf, QoSProfile(depth=100))
        self._discovery = self.create_timer(DISCOVERY_POLL_S, self._look_for_publisher)

    def _look_for_publisher(self) -> None:
        """Says when listening is no longer in vain: whoever waits for that loses no transform."""
        if self.count_publishers("/tf"):
            self._discovery.cancel()
            self.get_logger().info("connected: /tf has a publisher")

    def _on_tf(self, message: TFMessage) -> None:
        for transform in message.transforms:
            if self._child in (None, transform.child_frame_id):
                self.received += 1
                self._print(transform)

    def _print(self, transform: TransformStamped) -> None:
        try:
            print(json.dumps(line(transform)), flush=True)
        except InputError as error:
            self.get_logger().warning(f"a transform to '{transform.child_frame_id}' is left out: {error}")


def line(transform: TransformStamped) -> dict[str, object]:
    """What is printed of one transform; `received_s` is the wall clock, s since 1970."""
    return {
        "stamp_ns": stamp_ns(transform.header.stamp),
        "parent": transform.header.frame_id,
        "child": transform.child_frame_id,
        "parent_from_child": transform_from_message(transform).matrix().tolist(),
        "unit": "mm",
        "received_s": time.time(),
    }


def main(args: list[str] | None = None) -> int:
    """Listens until a signal, or until `--count` transforms have come."""
    parser = argparse.ArgumentParser(prog="tf_listener", description="Prints a JSON line for each transform on /tf.")
    parser.add_argument("--child", help="only transforms of this child frame (default: all)")
    parser.add_argument("--count", type=int, help="end after this many transforms")
    options = parser.parse_args(remove_ros_args(args if args is not None else sys.argv)[1:])
    rclpy.init(args=args)
    listener = TfListener(options.child)
    try:
        while options.count is None or listener.received < options.count:
            rclpy.spin_once(listener)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if rclpy.ok():  # a signal may have shut it down already
            rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
