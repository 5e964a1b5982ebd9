"""Two cameras in one node: frames of one moment are paired, and one transform is published for both."""

import json

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.registration_world import World, bony_volume
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, Probe, key_values
from helpers.ros_processes import ros_program
from sensor_msgs.msg import CameraInfo, Image

from fluoro_reg.carm.view_pose import ap_pose, view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, se3
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.ros import conversions, session
from fluoro_reg.ros.options import BodiesOptions, CTOptions, NodeOptions, SecondCameraOptions
from fluoro_reg.ros.processor import Frame
from fluoro_reg.ros.second_camera import FramePairing
from fluoro_reg.ros.serialised import SerialisedImage
from fluoro_reg.simulation.truncation import write_volume

pytestmark = pytest.mark.ros

MS = 1_000_000


class Pairs(FramePairing):
    """A pairing with a tolerance of 10 ms, and what has come of it."""

    def __init__(self):
        self.pairs, self.alone = [], []
        super().__init__(0.01, lambda frame: self.pairs.append((frame.stamp_ns, frame.others[0].stamp_ns)), self._give_up)

    def _give_up(self, frame, reason):
        self.alone.append(frame.stamp_ns)
        self.reason = reason


def frame(stamp_ms):
    return Frame(stamp_ms * MS, "carm", SerialisedImage(b"", Image, stamp_ms * MS, "carm"), CameraInfo(), 0.0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_frames_are_paired_whichever_comes_first(order):
    pairing = Pairs()
    steps = [lambda: pairing.add_first(frame(100)), lambda: pairing.add_second(frame(104))]
    for step in order:
        steps[step]()
    assert pairing.pairs == [(100 * MS, 104 * MS)]
    assert pairing.alone == []


def test_the_nearest_frame_is_the_partner():
    pairing = Pairs()
    for stamp in (80, 93, 98):
        pairing.add_second(frame(stamp))
    pairing.add_first(frame(100))
    assert pairing.pairs == [(100 * MS, 98 * MS)]


def test_a_frame_without_a_partner_is_given_up_as_soon_as_none_can_come():
    pairing = Pairs()
    pairing.add_first(frame(100))
    pairing.add_second(frame(80))
    assert pairing.alone == []
    pairing.add_second(frame(120))
    assert pairing.alone == [100 * MS]
    assert pairing.reason == ("the second camera has no image within 10 ms; synchronise the cameras, or raise second.tolerance")
    pairing.add_first(frame(150))
    pairing.add_first(frame(200))
    assert pairing.alone == [100 * MS, 150 * MS]
    pairing.clear()
    pairing.add_second(frame(200))
    assert pairing.pairs == []


def test_bodies_are_refused_with_two_cameras(monkeypatch):
    monkeypatch.setattr(session, "read_ct", lambda *_: bony_volume())
    options = NodeOptions(
        ct=CTOptions("somewhere"), second=SecondCameraOptions("view.json"), bodies=BodiesOptions("bodies.yaml")
    )
    with pytest.raises(InputError, match=r"second\.path and bodies\.path exclude each other"):
        session.load_session(options, RegistrationOptions(), print)


class Biplane(Probe):
    """A C-arm with two detectors 90 degrees apart, whose patient moves."""

    def __init__(self, world, camera_from_first):
        super().__init__()
        self.world, self.camera_from_first = world, camera_from_first
        self.second_image = self.probe.create_publisher(Image, "second/image", 10)
        self.second_info = self.probe.create_publisher(CameraInfo, "second/camera_info", 10)

    def pose(self, n):
        twist = torch.tensor([2.0, -1.0, 3.0, 0.01, 0.0, -0.01], dtype=torch.float64)
        return se3.retract(self.world.truth, n * twist, self.world.volume.centre_patient)

    def send_pair(self, n, delay_ms=2):
        """Publish frame n; the second camera's stamp is a little later. Return the status of its result."""
        before, pose, stamp = len(self.results()), self.pose(n), FIRST_STAMP + n * FRAME_NS
        self.publish(self.image_publisher, self.camera_info_publisher, pose, stamp)
        self.publish(self.second_image, self.second_info, self.camera_from_first @ pose, stamp + delay_ms * MS)
        self.spin_until(lambda: len(self.results()) > before, 60.0)
        return self.received["result"][-1].status[0]

    def publish(self, images, infos, pose, stamp):
        pixels = (self.world.xray(pose=pose).pixels.numpy() / 257).astype("uint8")
        camera = self.world.camera
        k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
        infos.publish(CameraInfo(header=conversions.header_message(stamp, "carm"), width=128, height=128, k=k))
        images.publish(conversions.image_message(pixels, stamp, "carm"))


def test_a_biplane_c_arm_over_real_processes(start, tmp_path):
    volume = bony_volume()
    world = World(volume, CameraIntrinsics(128, 128, 440.0, 440.0, 63.5, 63.5), ap_pose(volume.centre_patient, 700.0), None)
    camera_from_first = view_pose(volume.centre_patient, 90.0, 0.0, 0.0, 700.0) @ world.truth.inverse()
    ct = write_volume(tmp_path / "ct.nii.gz", volume)
    for name, key, pose in (
        ("second", "camera_from_first", camera_from_first),
        ("initial", "camera_from_patient", world.truth),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps({"unit": "mm", key: pose.matrix().tolist()}))
    settings = {"autostart": "true", "qos.image": "reliable", "ct.path": ct, "second.path": tmp_path / "second.json"}
    settings["initial.path"] = tmp_path / "initial.json"
    node = start(
        ros_program("node", "--ros-args", *(x for name, value in settings.items() for x in ("-p", f"{name}:={value}")))
    )
    node.wait_for_log("active: waiting for images on /image and /camera_info and /second/image and /second/camera_info")
    probe = Biplane(world, camera_from_first)
    probe.wait_until_connected(settle_s=0.5)
    for n in range(3):
        status = probe.send_pair(n)
        assert status.level == DiagnosticStatus.OK, status.message
        sent = probe.transforms()[-1]
        error = se3.local(probe.pose(n), conversions.transform_from_message(sent), volume.centre_patient)
        assert float(error[:3].norm()) < 0.5  # mm, depth included
    late = probe.send_pair(3, delay_ms=30)
    assert late.message == "the second camera has no image within 20 ms; synchronise the cameras, or raise second.tolerance"
    assert len(probe.transforms()) == 3
    assert key_values(probe.received["result"][-1].status[0])["outcome"] == "rejected_image"
    probe.close()
