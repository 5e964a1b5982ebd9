"""The node's answers on `~/result`, as JSON lines, and a player that waits for them.

A recording that goes its own pace outruns a slow machine, and the node then leaves frames out, as it should with a live camera.
Where every frame counts (tests, the demo), the player publishes an image only when the one before has its answer.
"""

import json
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from fluoro_reg.ros.conversions import stamp_ns

ANSWER_TIMEOUT_S = 60.0


class Answers:
    """Prints the answers that come on `topic`; one image at most is under way."""

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self._is_waiting = False
        self._published_s = 0.0
        self.topic = topic
        node.create_subscription(DiagnosticArray, topic, self._on_answer, QoSProfile(depth=10))

    def image_published(self) -> None:
        """From now on an answer is due."""
        self._published_s, self._is_waiting = time.time(), True

    def wait(self) -> None:
        """Returns when the last image has its answer, or when that takes too long: it was lost then, which is said."""
        end = time.monotonic() + ANSWER_TIMEOUT_S
        while self._is_waiting:
            rclpy.spin_once(self._node, timeout_sec=0.1)
            if time.monotonic() > end:
                self._node.get_logger().warning(f"no answer on {self.topic} for {ANSWER_TIMEOUT_S:g} s; going on without")
                self._is_waiting = False

    def _on_answer(self, message: DiagnosticArray) -> None:
        self._is_waiting = False
        print(json.dumps(line(message, self._published_s)), flush=True)


def line(message: DiagnosticArray, published_s: float) -> dict[str, Any]:
    """What is printed of one answer; times are the wall clock's, s since 1970."""
    values = {pair.key: pair.value for status in message.status for pair in status.values}
    stamp = stamp_ns(message.header.stamp)
    return {"stamp_ns": stamp, "published_s": published_s, "received_s": time.time(), "values": values}
