"""Two cameras in one node: frames of one moment are paired, and one transform is published for both.

The second camera's pose is known from a file, or from tf2 where the cameras move.
"""

import json
from dataclasses import replace

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.registration_world import World, bony_volume
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, Probe, key_values
from helpers.ros_processes import ros_program
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, se3
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.ros import conversions, session
from fluoro_reg.ros.frame_tree import FrameTree
from fluoro_reg.ros.frames import check_camera_frame, check_frame_options
from fluoro_reg.ros.options import BodiesOptions, CTOptions, FrameOptions, NodeOptions, SecondCameraOptions, TfOptions
from fluoro_reg.ros.processor import Frame
from fluoro_reg.ros.second_camera import FramePairing, cameras_from_first
from fluoro_reg.ros.serialised import SerialisedImage
from fluoro_reg.simulation.truncation import write_volume

pytestmark = pytest.mark.ros

MS = 1_000_000
CAMERA = CameraIntrinsics(128, 128, 440.0, 440.0, 63.5, 63.5)


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


@pytest.mark.parametrize(
    ("second", "bodies", "sentence"),
    [
        (SecondCameraOptions(path="view.json"), "bodies.yaml", r"second\.path and bodies\.path exclude each other"),
        (SecondCameraOptions(frame="lateral"), "bodies.yaml", r"second\.frame and bodies\.path exclude each other"),
        (SecondCameraOptions(path="view.json", frame="lateral"), "", "both say where the second camera is; set one only"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(monkeypatch, second, bodies, sentence):
    monkeypatch.setattr(session, "read_ct", lambda *_: bony_volume())
    options = NodeOptions(ct=CTOptions("somewhere"), second=second, bodies=BodiesOptions(bodies))
    with pytest.raises(InputError, match=sentence):
        session.load_session(options, RegistrationOptions(), print)


def test_two_cameras_need_two_frames():
    """The same frame twice would put both cameras in one place."""
    options = NodeOptions(second=SecondCameraOptions(frame="lateral"), frames=FrameOptions(camera="lateral"))
    with pytest.raises(InputError, match=r"frames\.camera and second\.frame are both 'lateral'"):
        check_frame_options(options)
    with pytest.raises(InputError, match=r"the image's frame_id is 'lateral', as is second\.frame"):
        check_camera_frame("lateral", NodeOptions(second=SecondCameraOptions(frame="lateral")))


def test_a_camera_is_not_the_frame_that_stays_still():
    """A first camera that moves would count as still between the stamps of the two images."""
    options = NodeOptions(second=SecondCameraOptions(frame="lateral"), frames=FrameOptions(anchor="carm"))
    with pytest.raises(InputError, match=r"the image's frame_id is 'carm', as is frames\.anchor"):
        check_camera_frame("carm", options)
    check_camera_frame("carm", replace(options, second=SecondCameraOptions(path="view.json")))


def test_a_camera_that_hangs_below_the_patient_has_no_pose():
    """It would rest on a registration, perhaps on that of this node."""
    tree = FrameTree(maximum_gap_s=0.2)
    pair = replace(frame(100), others=(replace(frame(104), frame_id="lateral"),))
    options = NodeOptions(second=SecondCameraOptions(frame="lateral"), tf=TfOptions(timeout=0.0))
    for parent, child in (("table", "patient"), ("patient", "carm"), ("table", "lateral")):
        tree.add(conversions.transform_message(RigidTransform.identity(), 0, parent, child), is_static=True)
    with pytest.raises(InputError, match="'patient' lies above 'carm' or 'table' on tf2"):
        cameras_from_first(pair, tree, options)
    tree.add(conversions.transform_message(RigidTransform.identity(), 0, "table", "carm"), is_static=True)
    assert len(cameras_from_first(pair, tree, options)) == 1


@pytest.mark.parametrize("below_patient", ["carm", "lateral", "rail"])
def test_nothing_that_a_lookup_of_two_cameras_rests_on_may_hang_below_the_patient(below_patient):
    """With an anchor below the patient, both cameras would rest on what another node registered."""
    tree = FrameTree(maximum_gap_s=0.2)
    pair = replace(frame(100), others=(replace(frame(104), frame_id="lateral"),))
    second, anchored = SecondCameraOptions(frame="lateral"), FrameOptions(anchor="rail")
    options = NodeOptions(second=second, frames=anchored, tf=TfOptions(timeout=0.0))
    parents = {"patient": "table", "carm": "table", "lateral": "table", "rail": "table"}
    for child, parent in {**parents, below_patient: "patient"}.items():
        tree.add(conversions.transform_message(RigidTransform.identity(), 0, parent, child), is_static=True)
    with pytest.raises(InputError, match="'patient' lies above"):
        cameras_from_first(pair, tree, options)
    tree.add(conversions.transform_message(RigidTransform.identity(), 0, "table", below_patient), is_static=True)
    assert len(cameras_from_first(pair, tree, options)) == 1


class Biplane(Probe):
    """Two cameras that look at a patient who moves from pair to pair.

    `cameras_at` returns the poses of the cameras at a stamp in ns: `camera_from_base` of the first and of the second, where
    the base is the patient's frame in pair 0.
    """

    def __init__(self, volume, cameras_at):
        super().__init__()
        self.cameras_at = cameras_at
        self.world = World(volume, CAMERA, cameras_at(FIRST_STAMP)[0], None)
        self.second_image = self.probe.create_publisher(Image, "second/image", 10)
        self.tf_publisher = self.probe.create_publisher(TFMessage, "/tf", 10)
        self.second_info = self.probe.create_publisher(CameraInfo, "second/camera_info", 10)

    def base_from_patient(self, n):
        twist = torch.tensor([2.0, -1.0, 3.0, 0.01, 0.0, -0.01], dtype=torch.float64)
        return se3.retract(RigidTransform.identity(), n * twist, self.world.volume.centre_patient)

    def send_pair(self, n, delay_ms=2, on_tf=()):
        """Publish pair n; the second camera's stamp is a little later. Return the status of its result.

        `on_tf` are the frames of the cameras whose poses are published, too.
        """
        before, stamps = len(self.results()), (FIRST_STAMP + n * FRAME_NS, FIRST_STAMP + n * FRAME_NS + delay_ms * MS)
        publishers = (self.image_publisher, self.camera_info_publisher), (self.second_image, self.second_info)
        for number, frame_id in enumerate(on_tf):
            base_from_camera = self.cameras_at(stamps[number])[number].inverse()
            message = conversions.transform_message(base_from_camera, stamps[number], "base", frame_id)
            self.tf_publisher.publish(TFMessage(transforms=[message]))
        for number in (0, 1):
            pose = self.cameras_at(stamps[number])[number] @ self.base_from_patient(n)
            self.publish(*publishers[number], pose, stamps[number])
        self.spin_until(lambda: len(self.results()) > before, 60.0)
        return self.received["result"][-1].status[0]

    def publish(self, images, infos, pose, stamp):
        pixels = (self.world.xray(pose=pose).pixels.numpy() / 257).astype("uint8")
        k = [CAMERA.fx, 0.0, CAMERA.cx, 0.0, CAMERA.fy, CAMERA.cy, 0.0, 0.0, 1.0]
        infos.publish(CameraInfo(header=conversions.header_message(stamp, "carm"), width=128, height=128, k=k))
        images.publish(conversions.image_message(pixels, stamp, "carm"))

    def poses(self):
        """The transforms of the patient."""
        return [t for t in self.transforms() if t.child_frame_id == "patient"]

    def check_answer(self, n, status):
        """Check that the pair was accepted, with a pose that is exact in depth, too."""
        assert status.level == DiagnosticStatus.OK, status.message
        stamp = FIRST_STAMP + n * FRAME_NS
        sent = next(
            t for t in self.transforms() if t.child_frame_id == "patient" and conversions.stamp_ns(t.header.stamp) == stamp
        )
        truth = self.cameras_at(stamp)[0] @ self.base_from_patient(n)
        error = se3.local(truth, conversions.transform_from_message(sent), self.world.volume.centre_patient)
        assert float(error[:3].norm()) < 0.2  # mm


@pytest.fixture
def biplane(start, tmp_path):
    """Start a node for two cameras whose poses are given, with further parameters."""
    probes = []

    def make(cameras_at, **parameters):
        volume = bony_volume()
        ct = write_volume(tmp_path / "ct.nii.gz", volume)
        initial = tmp_path / "initial.json"
        initial.write_text(json.dumps({"unit": "mm", "camera_from_patient": cameras_at(FIRST_STAMP)[0].matrix().tolist()}))
        settings = {"autostart": "true", "qos.image": "reliable", "ct.path": ct, "initial.path": initial, **parameters}
        given = [x for name, value in settings.items() for x in ("-p", f"{name.replace('__', '.')}:={value}")]
        node = start(ros_program("node", "--ros-args", *given))
        node.wait_for_log("active: waiting for images on /image and /camera_info and /second/image and /second/camera_info")
        probes.append(Biplane(volume, cameras_at))
        probes[-1].wait_until_connected(settle_s=0.5)
        return probes[-1]

    yield make
    for probe in probes:
        probe.close()


def at_angle(degrees):
    """`camera_from_base` of a camera that looks at the patient from the side."""
    return view_pose(bony_volume().centre_patient, degrees, 0.0, 0.0, 700.0)


def test_a_biplane_c_arm_over_real_processes(biplane, tmp_path):
    frontal, lateral = at_angle(0.0), at_angle(90.0)
    fixed = {"unit": "mm", "camera_from_first": (lateral @ frontal.inverse()).matrix().tolist()}
    (tmp_path / "second.json").write_text(json.dumps(fixed))
    probe = biplane(lambda _: (frontal, lateral), second__path=tmp_path / "second.json")
    for n in range(3):
        probe.check_answer(n, probe.send_pair(n))
    late = probe.send_pair(3, delay_ms=30)
    assert late.message == "the second camera has no image within 20 ms; synchronise the cameras, or raise second.tolerance"
    assert len(probe.poses()) == 3
    assert key_values(probe.received["result"][-1].status[0])["outcome"] == "rejected_image"


def test_cameras_that_move_on_tf_over_real_processes(biplane):
    """The second camera also travels: at the stamp of the first camera's image, it is still 3 mm away."""

    def cameras_at(stamp):
        seconds = (stamp - FIRST_STAMP) / 1e9
        lateral = at_angle(90.0 - 30.0 * seconds)
        travelled = torch.tensor([0.0, 200.0 * seconds, 0.0], dtype=torch.float64)
        return at_angle(30.0 * seconds), RigidTransform(lateral.rotation, lateral.translation + travelled)

    probe = biplane(cameras_at, second__frame="lateral", tf__timeout=1.0)
    for n in range(3):
        probe.check_answer(n, probe.send_pair(n, delay_ms=15, on_tf=("carm", "lateral")))
    lost = probe.send_pair(3, on_tf=("carm",))
    assert "the transform to 'lateral' on /tf ends 0.054 s before the image's stamp" in lost.message
    assert key_values(lost)["state"] == "degraded"
    assert len(probe.poses()) == 3
    probe.check_answer(4, probe.send_pair(4, on_tf=("carm", "lateral")))
