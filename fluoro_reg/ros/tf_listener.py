"""`tf_listener`: print a JSON line for each transform on /tf, with the stamp of the image and the pose in mm.

It shows what other programs receive from the node. It replaces `ros2 topic echo` on machines without ros2cli, and the demo
compares its output with the true poses. The transforms are those of the messages, without interpolation.
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
    """Prints the transforms that arrive.

    Args:
        child: print only transforms to this child frame; None prints all.
    """

    def __init__(self, child: str | None) -> None:
        super().__init__("tf_listener")
        self._child = child
        self.received = 0
        self.create_subscription(TFMessage, "/tf", self._on_tf, QoSProfile(depth=100))
        self._discovery = self.create_timer(DISCOVERY_POLL_S, self._look_for_publisher)

    def _look_for_publisher(self) -> None:
        """Log when /tf has a publisher: programs that wait for this line miss no transform."""
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
            print(json.dumps(transform_record(transform)), flush=True)
        except InputError as error:
            self.get_logger().warning(f"a transform to '{transform.child_frame_id}' is skipped: {error}")


def transform_record(transform: TransformStamped) -> dict[str, object]:
    """Return what is printed for one transform; `received_s` is the wall-clock time in s since 1970."""
    return {
        "stamp_ns": stamp_ns(transform.header.stamp),
        "parent": transform.header.frame_id,
        "child": transform.child_frame_id,
        "parent_from_child": transform_from_message(transform).matrix().tolist(),
        "unit": "mm",
        "received_s": time.time(),
    }


def main(args: list[str] | None = None) -> int:
    """Listen until a signal, or until `--count` transforms have arrived."""
    parser = argparse.ArgumentParser(prog="tf_listener", description="Print a JSON line for each transform on /tf.")
    parser.add_argument("--child", help="print only transforms to this child frame (default: all)")
    parser.add_argument("--count", type=int, help="stop after this many transforms")
    options = parser.parse_args(remove_ros_args(args if args is not None else sys.argv)[1:])
    rclpy.init(args=args)
    listener = TfListener(options.child)
    try:
        while options.count is None or listener.received < options.count:
            rclpy.spin_once(listener)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if rclpy.ok():  # a signal may already have shut it down
            rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
