"""The node under test with a tracker whose answer is known, and a probe node that feeds and hears it."""

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
from fluoro_reg.registration import Outcome, RegistrationResult
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
    """A CT that only has a box."""
    return CTVolume(torch.zeros(10, 20, 30), torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0], dtype=torch.float64)), "f" * 64)


def block_ct() -> CTVolume:
    """A block of bone, 16 mm wide, about the patient's origin."""
    attenuation = torch.zeros(16, 16, 16)
    attenuation[4:12, 4:12, 4:12] = 0.06
    patient_from_voxel = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    patient_from_voxel[:3, 3] = -15.0
    return CTVolume(attenuation, patient_from_voxel, "e" * 64)


@dataclass
class FakeTracker:
    """Accepts every image that is not blank with the known pose; notes what is asked of it."""

    images: list[XrayImage] = field(default_factory=list)
    starts: list[RigidTransform] = field(default_factory=list)
    resets: int = 0
    before_answer: Callable[[], None] = lambda: None

    def update(self, image: XrayImage) -> RegistrationResult:
        self.images.append(image)
        self.before_answer()
        if float(image.pixels.max()) == float(image.pixels.min()):
            return RegistrationResult(Outcome.REJECTED_IMAGE, "the image is blank", "fake")
        covariance = torch.diag(torch.tensor([1.0, 4.0, 9.0, 1e-4, 1e-4, 1e-4], dtype=torch.float64))
        return RegistrationResult(
            Outcome.CONVERGED, "all gates hold", "fake", KNOWN_POSE, similarity=0.9, covariance=covariance
        )

    def reset(self) -> None:
        self.resets += 1

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        self.starts.append(camera_from_patient)


class Bench:
    """One node under test, and a probe node that publishes its input and keeps its output; both spun by the test itself."""

    def __init__(self, tracker: FrameTracker, ct: CTVolume, arguments: list[str], load: SessionLoader | None = None) -> None:
        self.tracker = tracker
        self.node = RegistrationNode(load=load or (lambda *_: Session(ct, tracker)), cli_args=["--ros-args", *arguments])
        self.probe = rclpy.create_node("probe")
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.probe):
            self.executor.add_node(node)
        self.images = self.probe.create_publisher(Image, "image", 10)
        self.infos = self.probe.create_publisher(CameraInfo, "camera_info", 10)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.heard: dict[str, list[Any]] = {}
        for name, message_type, topic, profile in (
            ("tf", TFMessage, "/tf", 100),
            ("pose", PoseWithCovarianceStamped, "registration_node/pose", 100),
            ("result", DiagnosticArray, "registration_node/result", 100),
            ("valid", Bool, "registration_node/valid", latched),
            ("diagnostics", DiagnosticArray, "/diagnostics", 100),
        ):
            messages = self.heard[name] = []
            self.probe.create_subscription(message_type, topic, messages.append, profile)

    def close(self) -> None:
        self.node.close()
        for node in (self.node, self.probe):
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()

    def activate(self) -> None:
        """Up to the point where the probe's images would arrive."""
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.until(lambda: self.images.get_subscription_count() > 0 and self.infos.get_subscription_count() > 0)
        self.until(lambda: len(self.heard["valid"]) > 0)

    def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Spins until the condition holds; fails when it does not in time."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "the condition did not become true in time"
            self.executor.spin_once(timeout_sec=0.02)

    def spin(self, seconds: float) -> None:
        """Lets things happen that must not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def send(self, stamp: int, blank: bool = False, info: bool = True) -> None:
        """One frame."""
        if info:
            self.infos.publish(camera_info(stamp))
        self.images.publish(image(stamp, blank))

    def answered(self, stamp: int, **kinds: bool) -> DiagnosticStatus:
        """Sends a frame and waits for its result."""
        before = len(self.results())
        self.send(stamp, **kinds)
        self.until(lambda: len(self.results()) > before)
        return self.heard["result"][-1].status[0]

    def call(self, service_type: type, name: str, request: Any = None) -> Any:
        """Call a service of the node and return its response."""
        client = self.probe.create_client(service_type, f"registration_node/{name}")
        self.until(client.service_is_ready)
        future = client.call_async(request or service_type.Request())
        self.until(future.done)
        self.probe.destroy_client(client)
        return future.result()

    def results(self) -> list[dict[str, str]]:
        """The key-value pairs of all results."""
        return [values_of(message.status[0]) for message in self.heard["result"]]

    def transforms(self) -> list[Any]:
        """All transforms heard."""
        return [transform for message in self.heard["tf"] for transform in message.transforms]

    def diagnostics(self, task: str) -> DiagnosticStatus:
        """The newest report of one task."""
        self.heard["diagnostics"].clear()
        self.until(lambda: len(self.heard["diagnostics"]) > 0)
        return next(s for s in self.heard["diagnostics"][-1].status if s.name.endswith(f": {task}"))


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """Key-value pairs as a dictionary."""
    return {pair.key: pair.value for pair in status.values}


def image(stamp: int, blank: bool = False, frame_id: str = "carm_optical") -> Image:
    """A mono16 frame: a ramp, or nothing."""
    pixels = np.full((SIZE, SIZE), 5000, dtype=np.uint16)
    if not blank:
        pixels += np.arange(SIZE, dtype=np.uint16) * 100
    message = Image(
        header=conversions.header_message(stamp, frame_id), encoding="mono16", height=SIZE, width=SIZE, step=2 * SIZE
    )
    message.data = conversions.byte_array(pixels)
    return message


def camera_info(stamp: int, frame_id: str = "carm_optical") -> CameraInfo:
    """The camera of those frames."""
    return CameraInfo(header=conversions.header_message(stamp, frame_id), height=SIZE, width=SIZE, k=K)
