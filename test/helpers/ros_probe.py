"""A probe: a node that publishes images as a driver does and records what `registration_node` publishes, in any process."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Bool
from tf2_msgs.msg import TFMessage

from fluoro_reg.ros import conversions

FIRST_STAMP = 1_700_000_000_000_000_000
FRAME_NS = 66_666_667
SIZE = 64
K = [500.0, 0.0, 31.5, 0.0, 500.0, 31.5, 0.0, 0.0, 1.0]


class Probe:
    """Publishes input of a registration node and records its output; the test spins it.

    Args:
        nodes: other nodes of this process to spin.
        name: the full name of the registration node, without the first slash.
    """

    def __init__(self, nodes: Sequence[Node] = (), name: str = "registration_node") -> None:
        self.name = name
        self.probe = rclpy.create_node("probe")
        self.nodes = [*nodes, self.probe]
        self.executor = SingleThreadedExecutor()
        for node in self.nodes:
            self.executor.add_node(node)
        self.image_publisher = self.probe.create_publisher(Image, "image", 10)
        self.camera_info_publisher = self.probe.create_publisher(CameraInfo, "camera_info", 10)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.received: dict[str, list[Any]] = {}
        for kind, message_type, topic, profile in (
            ("tf", TFMessage, "/tf", 100),
            ("pose", PoseWithCovarianceStamped, f"{name}/pose", 100),
            ("fused_pose", PoseWithCovarianceStamped, f"{name}/fused_pose", 100),
            ("result", DiagnosticArray, f"{name}/result", 100),
            ("valid", Bool, f"{name}/valid", latched),
            ("diagnostics", DiagnosticArray, "/diagnostics", 100),
        ):
            messages = self.received[kind] = []
            self.probe.create_subscription(message_type, topic, messages.append, profile)

    def close(self) -> None:
        for node in self.nodes:
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()

    def wait_until_connected(self, settle_s: float = 0.0) -> None:
        """Wait until the node is active and images of the probe would arrive.

        Args:
            settle_s: for a node in another process, which discovers the probe a little later than the probe discovers it.
        """
        publishers = (self.image_publisher, self.camera_info_publisher)
        self.spin_until(lambda: all(publisher.get_subscription_count() > 0 for publisher in publishers))
        self.spin_until(lambda: len(self.received["valid"]) > 0)
        self.spin_for(settle_s)

    def spin_until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Spin until the condition is true; fail if that takes longer than the timeout."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "the condition did not become true in time"
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds: float) -> None:
        """Spin for a fixed time, to give unwanted messages the time to arrive."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def send(self, stamp: int, blank: bool = False, info: bool = True) -> None:
        """Publish one frame."""
        if info:
            self.camera_info_publisher.publish(camera_info(stamp))
        self.image_publisher.publish(image(stamp, blank))

    def send_and_wait(self, stamp: int, **options: bool) -> DiagnosticStatus:
        """Publish a frame, wait for its result and return it."""
        before = len(self.results())
        self.send(stamp, **options)
        try:
            self.spin_until(lambda: len(self.results()) > before)
        except AssertionError as error:
            said = [
                (status.message, key_values(status))
                for message in self.received["diagnostics"][-1:]
                for status in message.status
            ]
            raise AssertionError(f"no answer to the image with stamp {stamp}; the node's last diagnostics: {said}") from error
        return self.received["result"][-1].status[0]

    def call(self, service_type: Any, name: str, request: Any = None) -> Any:
        """Call a service of the node and return its response."""
        client: Any = self.probe.create_client(service_type, f"{self.name}/{name}")
        self.spin_until(client.service_is_ready)
        future = client.call_async(request or service_type.Request())
        self.spin_until(future.done)
        self.probe.destroy_client(client)
        return future.result()

    def results(self) -> list[dict[str, str]]:
        """Return the key-value pairs of all results."""
        return [key_values(message.status[0]) for message in self.received["result"]]

    def transforms(self) -> list[Any]:
        """Return all transforms received."""
        return [transform for message in self.received["tf"] for transform in message.transforms]

    def diagnostics(self, task: str) -> DiagnosticStatus:
        """Wait for the next diagnostics and return the status of one task."""
        self.received["diagnostics"].clear()
        self.spin_until(lambda: len(self.received["diagnostics"]) > 0)
        return next(s for s in self.received["diagnostics"][-1].status if s.name.endswith(f": {task}"))


def key_values(status: DiagnosticStatus) -> dict[str, str]:
    """Return the key-value pairs of a status."""
    return {pair.key: pair.value for pair in status.values}


def image(stamp: int, blank: bool = False, frame_id: str = "carm_optical") -> Image:
    """Return a mono16 image: a ramp, or a constant if `blank`."""
    pixels = np.full((SIZE, SIZE), 5000, dtype=np.uint16)
    if not blank:
        pixels += np.arange(SIZE, dtype=np.uint16) * 100
    message = Image(
        header=conversions.header_message(stamp, frame_id), encoding="mono16", height=SIZE, width=SIZE, step=2 * SIZE
    )
    message.data = conversions.byte_array(pixels)
    return message


def camera_info(stamp: int, frame_id: str = "carm_optical") -> CameraInfo:
    """Return the CameraInfo of the images."""
    return CameraInfo(header=conversions.header_message(stamp, frame_id), height=SIZE, width=SIZE, k=K)
