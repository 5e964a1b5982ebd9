"""A test bench for the node: a fake tracker that returns a known pose, and a probe node that publishes and subscribes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Bool
from tf2_msgs.msg import TFMessage

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration import Outcome, RegistrationOptions, RegistrationResult
from fluoro_reg.ros import conversions
from fluoro_reg.ros.node import RegistrationNode, SessionLoader
from fluoro_reg.ros.processor import FrameTracker
from fluoro_reg.ros.session import Session
from fluoro_reg.xray.image import XrayImage

PROJECT = Path(__file__).resolve().parents[2]
FIRST_STAMP = 1_700_000_000_000_000_000
FRAME_NS = 66_666_667
SIZE = 64
K = [500.0, 0.0, 31.5, 0.0, 500.0, 31.5, 0.0, 0.0, 1.0]
KNOWN_POSE = RigidTransform(
    so3.exp(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)), torch.tensor([12.0, -7.0, 800.0], dtype=torch.float64)
)


def empty_ct() -> CTVolume:
    """Return a CT of air."""
    return CTVolume(torch.zeros(10, 20, 30), torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0], dtype=torch.float64)), "f" * 64)


def block_ct() -> CTVolume:
    """Return a CT with a cube of bone of 16 mm at the patient's origin."""
    attenuation = torch.zeros(16, 16, 16)
    attenuation[4:12, 4:12, 4:12] = 0.06
    patient_from_voxel = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    patient_from_voxel[:3, 3] = -15.0
    return CTVolume(attenuation, patient_from_voxel, "e" * 64)


@dataclass
class FakeTracker:
    """Accepts every image that is not blank with the known pose, and records its calls."""

    images: list[XrayImage] = field(default_factory=list)
    initial_poses: list[RigidTransform] = field(default_factory=list)
    changed_options: list[RegistrationOptions] = field(default_factory=list)
    resets: int = 0
    before_result: Callable[[], None] = lambda: None

    def update(self, xray: XrayImage) -> RegistrationResult:
        self.images.append(xray)
        self.before_result()
        if float(xray.pixels.max()) == float(xray.pixels.min()):
            return RegistrationResult(Outcome.REJECTED_IMAGE, "the image is blank", "fake")
        covariance = torch.diag(torch.tensor([1.0, 4.0, 9.0, 1e-4, 1e-4, 1e-4], dtype=torch.float64))
        return RegistrationResult(
            Outcome.CONVERGED, "all gates hold", "fake", KNOWN_POSE, similarity=0.9, covariance=covariance
        )

    def reset(self) -> None:
        self.resets += 1

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        self.initial_poses.append(camera_from_patient)

    def change_options(self, options: RegistrationOptions) -> None:
        self.changed_options.append(options)


class Bench:
    """A node under test and a probe node that publishes its input and records its output; the test spins both.

    Args:
        tracker: the tracker of the node.
        ct: the CT of the node.
        arguments: ROS arguments of the node.
        load: replaces the loader that gives the node `ct` and `tracker`.
    """

    def __init__(self, tracker: FrameTracker, ct: CTVolume, arguments: list[str], load: SessionLoader | None = None) -> None:
        self.tracker = tracker
        self.node = RegistrationNode(
            load=load or (lambda *_: Session(ct, tracker, "fake")), cli_args=["--ros-args", *arguments]
        )
        self.probe = rclpy.create_node("probe")
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.probe):
            self.executor.add_node(node)
        self.image_publisher = self.probe.create_publisher(Image, "image", 10)
        self.camera_info_publisher = self.probe.create_publisher(CameraInfo, "camera_info", 10)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.received: dict[str, list[Any]] = {}
        for name, message_type, topic, profile in (
            ("tf", TFMessage, "/tf", 100),
            ("pose", PoseWithCovarianceStamped, "registration_node/pose", 100),
            ("result", DiagnosticArray, "registration_node/result", 100),
            ("valid", Bool, "registration_node/valid", latched),
            ("diagnostics", DiagnosticArray, "/diagnostics", 100),
        ):
            messages = self.received[name] = []
            self.probe.create_subscription(message_type, topic, messages.append, profile)

    def close(self) -> None:
        self.node.close()
        for node in (self.node, self.probe):
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()

    def activate(self) -> None:
        """Configure and activate the node, and wait until images of the probe would arrive."""
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.spin_until(
            lambda: (
                self.image_publisher.get_subscription_count() > 0 and self.camera_info_publisher.get_subscription_count() > 0
            )
        )
        self.spin_until(lambda: len(self.received["valid"]) > 0)

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
        self.spin_until(lambda: len(self.results()) > before)
        return self.received["result"][-1].status[0]

    def call(self, service_type: Any, name: str, request: Any = None) -> Any:
        """Call a service of the node and return its response."""
        client: Any = self.probe.create_client(service_type, f"registration_node/{name}")
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
