"""Listen to `~/result`, print the results as JSON lines, and wait for the result of each image.

A recording played at its own pace can outrun a slow machine, and the node then drops frames, as it should with a live camera.
Where every frame counts (tests, the demo), the player publishes an image only after the result of the previous one.
"""

import json
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from fluoro_reg.ros.conversions import stamp_ns

RESULT_TIMEOUT_S = 60.0


class ResultListener:
    """Print the results that arrive on `topic`; at most one image is pending."""

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self._is_pending = False
        self._published_s = 0.0
        self.topic = topic
        node.create_subscription(DiagnosticArray, topic, self._on_result, QoSProfile(depth=10))

    def expect_result(self) -> None:
        """Mark an image as pending; call this just before publishing it."""
        self._published_s, self._is_pending = time.time(), True

    def wait(self) -> None:
        """Wait for the result of the pending image; log a warning and continue if it does not arrive in time."""
        end = time.monotonic() + RESULT_TIMEOUT_S
        while self._is_pending:
            rclpy.spin_once(self._node, timeout_sec=0.1)
            if time.monotonic() > end:
                self._node.get_logger().warning(
                    f"no result on {self.topic} for {RESULT_TIMEOUT_S:g} s; continuing with the next image"
                )
                self._is_pending = False

    def _on_result(self, message: DiagnosticArray) -> None:
        record = result_record(message, self._published_s)
        if record["values"].get("searching") == "true":
            return  # the image has a second result when the search has ended
        self._is_pending = False
        print(json.dumps(record), flush=True)


def result_record(message: DiagnosticArray, published_s: float) -> dict[str, Any]:
    """Return what is printed for one result; `published_s` and `received_s` are wall-clock times in s since 1970.

    The first status is that of the frame; `bodies` holds those of its bodies by name, if there are any.
    """
    values, *others = ({pair.key: pair.value for pair in status.values} for status in message.status)
    bodies = {"bodies": {body["body"]: body for body in others}} if others else {}
    stamp = stamp_ns(message.header.stamp)
    return {"stamp_ns": stamp, "published_s": published_s, "received_s": time.time(), "values": values, **bodies}
