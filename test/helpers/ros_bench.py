"""A test bench for the node: a fake tracker that returns a known pose, and the node together with a probe."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rclpy.lifecycle import TransitionCallbackReturn

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration import Outcome, RegistrationOptions, RegistrationResult
from fluoro_reg.ros.node import RegistrationNode, SessionLoader
from fluoro_reg.ros.processor import FrameTracker
from fluoro_reg.ros.session import Session
from fluoro_reg.xray.image import XrayImage
from helpers.ros_probe import Probe

PROJECT = Path(__file__).resolve().parents[2]
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
    stamps: list[int | None] = field(default_factory=list)
    initial_poses: list[RigidTransform] = field(default_factory=list)
    changed_options: list[RegistrationOptions] = field(default_factory=list)
    resets: int = 0
    before_result: Callable[[], None] = lambda: None
    searching_since: float | None = None
    on_search_end: Callable[[], None] = lambda: None

    def update(self, xray: XrayImage, stamp_ns: int | None = None) -> RegistrationResult:
        self.images.append(xray)
        self.stamps.append(stamp_ns)
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

    def late_result(self) -> RegistrationResult | None:
        return None

    def when_search_ends(self, call: Callable[[], None]) -> None:
        self.on_search_end = call

    def close(self, timeout_s: float) -> bool:
        return True


class Bench(Probe):
    """A probe together with a node under test in the same process.

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
        super().__init__([self.node])

    def close(self) -> None:
        self.node.close()
        super().close()

    def activate(self) -> None:
        """Configure and activate the node, and wait until images of the probe would arrive."""
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.wait_until_connected()
