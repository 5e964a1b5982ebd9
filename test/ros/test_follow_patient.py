"""The consumer of the documentation follows assessed poses only, with tf2 where it is installed, else with a stand-in."""

import importlib.util
import sys

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from helpers.documentation import page
from helpers.ros_bench import KNOWN_POSE, PROJECT
from helpers.ros_probe import FRAME_NS, Probe
from helpers.ros_processes import TESTS, fake_node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.ros import conversions
from fluoro_reg.ros.outputs import VALID_PROFILE

pytestmark = pytest.mark.ros

HAS_TF2 = importlib.util.find_spec("tf2_ros") is not None
BASE_FROM_CAMERA = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([500.0, 0.0, 900.0], dtype=torch.float64))


@pytest.fixture
def tf2_ros(monkeypatch, request):
    """The module tf2_ros; the report of the test says which."""
    if not HAS_TF2:
        monkeypatch.syspath_prepend(str(TESTS / "helpers" / "stand_in"))
    module = importlib.import_module("tf2_ros")
    request.node.user_properties.append(("tf2", "tf2_ros" if HAS_TF2 else "the stand-in, because tf2_ros is not installed"))
    yield module
    if not HAS_TF2:
        sys.modules.pop("tf2_ros")


@pytest.fixture
def example(tf2_ros):
    spec = importlib.util.spec_from_file_location("follow_patient", PROJECT / "examples" / "follow_patient.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def follower(example):
    return example.PatientFollower()


@pytest.fixture
def patterns(tf2_ros):
    """The functions of the page."""
    text = page("how-to/robot.md")
    code = text.split('```python title="patterns.py"\n')[1].split("```")[0]
    namespace = {}
    exec(compile(code, "patterns.py", "exec"), namespace)
    return namespace


@pytest.fixture
def robot(follower):
    """A probe that also publishes the place of the camera, and what the follower publishes."""
    probe = Probe([follower])
    probe.targets = []
    probe.probe.create_subscription(PoseStamped, "patient_follower/target", probe.targets.append, 10)
    publisher = probe.probe.create_publisher(TFMessage, "/tf", 10)

    def send(stamp, blank=False):
        message = conversions.transform_message(BASE_FROM_CAMERA, stamp, "robot_base", "carm_optical")
        publisher.publish(TFMessage(transforms=[message]))
        return probe.send_and_wait(stamp, blank=blank)

    probe.send_frame = send
    yield probe
    probe.close()


def stamps_of(messages):
    return [conversions.stamp_ns(message.header.stamp) for message in messages]


def test_only_assessed_poses_of_recent_images_are_followed(start, robot, follower, patterns, tf2_ros):
    node = start(fake_node("-p", "autostart:=true"))
    follower._maximum_age_s = 10.0  # on a busy machine, a frame takes longer than half a second
    robot.wait_until_connected(settle_s=0.5)
    robot.spin_until(lambda: robot.probe.count_publishers("/tf") >= 2)
    first = robot.probe.get_clock().now().nanoseconds
    stamps = [first + n * FRAME_NS for n in range(3)]
    assert robot.send_frame(stamps[0]).level == DiagnosticStatus.OK
    robot.spin_until(lambda: len(robot.targets) == 1)
    robot.spin_for(0.1)
    assert robot.send_frame(stamps[1], blank=True).level == DiagnosticStatus.WARN
    robot.spin_for(0.1)
    assert robot.send_frame(stamps[2]).level == DiagnosticStatus.OK
    robot.spin_until(lambda: len(robot.targets) == 2)
    assert stamps_of(robot.targets) == [stamps[0], stamps[2]]
    assert robot.targets[0].header.frame_id == "robot_base"
    expected = (BASE_FROM_CAMERA @ KNOWN_POSE).translation / 1000
    position = robot.targets[0].pose.position
    assert [position.x, position.y, position.z] == pytest.approx(expected.tolist())

    # tf2 gives a pose for the rejected image; the consumer refuses it.
    rejected = Time(nanoseconds=stamps[1])
    assert follower._buffer.lookup_transform("robot_base", "patient", rejected)
    with pytest.raises(LookupError, match="no pose was assessed for this stamp"):
        follower.patient_at(rejected)
    poses = robot.received["pose"]
    assert stamps_of(poses) == [stamps[0], stamps[2]]
    found = patterns["patient_in"]("robot_base", follower._buffer, poses[1])
    torch.testing.assert_close(
        conversions.transform_from_message(found).matrix(), (BASE_FROM_CAMERA @ KNOWN_POSE).matrix(), atol=1e-6, rtol=0
    )
    assert patterns["is_fresh"](poses[1], robot.probe.get_clock(), 60.0)
    assert not patterns["is_fresh"](poses[1], robot.probe.get_clock(), 0.0)

    # An old pose, then a dead node, are not followed, although tf2 still finds them.
    follower._maximum_age_s = 0.5
    robot.spin_for(0.6)
    assert "old" in follower.refusal() or "not valid" in follower.refusal()
    follower._maximum_age_s = 10.0
    robot.send_frame(robot.probe.get_clock().now().nanoseconds)
    robot.spin_until(lambda: len(robot.targets) == 3)
    node.process.kill()
    robot.spin_until(lambda: not follower._is_valid, timeout_s=2.0)
    assert follower.refusal().startswith("the node says")
    assert follower._buffer.lookup_transform("robot_base", "patient", Time.from_msg(robot.received["pose"][-1].header.stamp))


def test_the_page_and_the_example_request_what_the_node_offers(patterns, example):
    for profile in (patterns["ALIVE"], example.ALIVE):
        for policy in ("durability", "deadline", "liveliness", "liveliness_lease_duration", "depth"):
            assert getattr(profile, policy) == getattr(VALID_PROFILE, policy)
