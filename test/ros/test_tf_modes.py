"""The edge on /tf: its direction, its anchor, and other publishers of the same frame."""

import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import KNOWN_POSE
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, key_values
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.ros import conversions

pytestmark = pytest.mark.ros

BASE_FROM_CAMERA = RigidTransform(
    so3.exp(torch.tensor([0.1, 0.7, -0.4], dtype=torch.float64)), torch.tensor([1500.0, -300.0, 900.0], dtype=torch.float64)
)


@pytest.fixture
def robot(make_bench):
    """Make a bench with a node that publishes transforms as a robot does."""
    nodes = []

    def make(**parameters):
        bench = make_bench(**parameters)
        node = rclpy.create_node("robot")
        nodes.append(node)
        latched = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        publishers = {"/tf": node.create_publisher(TFMessage, "/tf", 10)}
        publishers["/tf_static"] = node.create_publisher(TFMessage, "/tf_static", latched)
        bench.activate()
        bench.spin_until(lambda: all(publisher.get_subscription_count() > 0 for publisher in publishers.values()))

        def publish(parent, child, stamp, pose=BASE_FROM_CAMERA, topic="/tf"):
            message = conversions.transform_message(pose, stamp, parent, child)
            publishers[topic].publish(TFMessage(transforms=[message]))
            bench.spin_for(0.2)

        return bench, publish

    yield make
    for node in nodes:
        node.destroy_node()


def edges(bench, child):
    return [t for t in bench.transforms() if t.child_frame_id == child]


def test_inverse_publishes_the_camera_in_the_patient(robot):
    bench, _ = robot(tf__mode="inverse")
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 1)
    message = bench.transforms()[0]
    assert (message.header.frame_id, message.child_frame_id) == ("patient", "carm_optical")
    patient_from_camera = conversions.transform_from_message(message)
    torch.testing.assert_close(patient_from_camera.matrix(), KNOWN_POSE.inverse().matrix())
    bench.spin_until(lambda: bench.received["pose"])
    assert bench.received["pose"][0].header.frame_id == "carm_optical"  # ~/pose does not depend on the mode
    assert key_values(bench.diagnostics("configuration"))["tf.mode"] == "inverse"


@pytest.mark.parametrize("topic", ["/tf", "/tf_static"])
def test_anchored_publishes_the_patient_in_the_anchor_at_the_stamp_of_the_image(robot, topic):
    bench, publish = robot(tf__mode="anchored", frames__anchor="robot_base")
    publish("robot_base", "carm_optical", FIRST_STAMP, topic=topic)
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: edges(bench, "patient"))
    message = edges(bench, "patient")[0]
    assert message.header.frame_id == "robot_base"
    assert conversions.stamp_ns(message.header.stamp) == FIRST_STAMP
    expected = BASE_FROM_CAMERA @ KNOWN_POSE
    torch.testing.assert_close(conversions.transform_from_message(message).matrix(), expected.matrix())


def test_an_anchored_pose_waits_for_the_camera_and_is_rejected_without_it(robot):
    bench, publish = robot(tf__mode="anchored", frames__anchor="robot_base", tf__timeout=5.0)
    publish("robot_base", "carm_optical", FIRST_STAMP)
    bench.send(FIRST_STAMP + FRAME_NS)
    bench.spin_for(0.3)
    assert not bench.results()
    publish("robot_base", "carm_optical", FIRST_STAMP + 2 * FRAME_NS)
    bench.spin_until(lambda: edges(bench, "patient"))
    late, _ = robot(tf__mode="anchored", frames__anchor="robot_base", tf__timeout=0.1)
    status = late.send_and_wait(FIRST_STAMP)
    assert "tf2 does not connect 'robot_base' and 'carm_optical'" in status.message
    assert not late.received["pose"]
    assert not late.received["valid"][-1].data


def test_poses_are_fused_in_the_anchor_until_the_patient_moves(robot):
    """The tracker always sees the same pose, so that the patient moves with a camera that moves."""
    bench, publish = robot(tf__mode="anchored", frames__anchor="robot_base", tf__fuse=True)
    moved = RigidTransform(BASE_FROM_CAMERA.rotation, BASE_FROM_CAMERA.translation + 40.0)
    seen = []
    for n, base_from_camera in enumerate((BASE_FROM_CAMERA, BASE_FROM_CAMERA, moved)):
        publish("robot_base", "carm_optical", FIRST_STAMP + n * FRAME_NS, base_from_camera)
        seen.append(key_values(bench.send_and_wait(FIRST_STAMP + n * FRAME_NS)))
    assert [values["fused.began_anew"] for values in seen] == ["false", "false", "true"]
    assert {values["fused.views"] for values in seen} == {"1"}
    bench.spin_until(lambda: len(bench.received["fused_pose"]) == 3 and len(edges(bench, "patient")) == 3)
    fused = bench.received["fused_pose"][-1]
    assert fused.header.frame_id == "robot_base"
    torch.testing.assert_close(conversions.pose_from_message(fused).matrix(), (moved @ KNOWN_POSE).matrix())
    assert fused.pose.covariance[0] > 0
    last = conversions.transform_from_message(edges(bench, "patient")[-1])
    torch.testing.assert_close(last.matrix(), (moved @ KNOWN_POSE).matrix())
    assert bench.received["pose"][-1].header.frame_id == "carm_optical"  # that of the image alone


def test_an_anchor_is_refused_when_the_camera_hangs_below_the_patient(robot):
    bench, publish = robot(tf__mode="anchored", frames__anchor="robot_base")
    publish("patient", "carm_optical", FIRST_STAMP)
    status = bench.send_and_wait(FIRST_STAMP)
    assert "'patient' lies above 'carm_optical' or 'robot_base' on tf2; use tf.mode direct" in status.message
    assert not edges(bench, "patient")


@pytest.mark.parametrize(
    ("mode", "topic", "parent", "child"),
    [
        ("direct", "/tf", "table", "patient"),
        ("direct", "/tf", "table", "/patient"),
        ("direct", "/tf_static", "table", "patient"),
        ("inverse", "/tf", "carm_base", "carm_optical"),
        ("inverse", "/tf_static", "carm_base", "carm_optical"),
    ],
)
def test_while_another_node_publishes_the_same_child_no_pose_is_published(robot, mode, topic, parent, child):
    bench, publish = robot(tf__mode=mode)
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: bench.received["pose"])
    publish(parent, child, FIRST_STAMP, topic=topic)
    status = bench.send_and_wait(FIRST_STAMP + FRAME_NS)
    sentence = f"another node publishes '{child.lstrip('/')}' below '{parent}' on {topic}"
    assert sentence in status.message
    bench.spin_for(0.2)
    assert len(bench.received["pose"]) == 1
    assert not bench.received["valid"][-1].data
    diagnostics = bench.diagnostics("registration")
    assert diagnostics.level == DiagnosticStatus.ERROR
    assert sentence in diagnostics.message


def test_after_a_reset_another_node_that_stopped_is_forgotten_but_not_what_it_left_on_tf_static(robot):
    bench, publish = robot()
    publish("table", "patient", FIRST_STAMP)
    assert "and then call ~/reset" in bench.send_and_wait(FIRST_STAMP).message
    assert "another node" in bench.send_and_wait(FIRST_STAMP + FRAME_NS).message  # its silence alone proves nothing
    bench.call(Trigger, "reset")
    assert bench.send_and_wait(FIRST_STAMP + 2 * FRAME_NS).level == DiagnosticStatus.OK
    publish("table", "patient", FIRST_STAMP, topic="/tf_static")
    bench.call(Trigger, "reset")
    assert "and then configure this node again" in bench.send_and_wait(FIRST_STAMP + 3 * FRAME_NS).message


def test_transforms_between_other_frames_do_not_disturb(robot):
    bench, publish = robot()
    publish("base", "arm", FIRST_STAMP)
    publish("base", "patient_bed", FIRST_STAMP, topic="/tf_static")
    for step in range(3):
        assert bench.send_and_wait(FIRST_STAMP + step * FRAME_NS).level == DiagnosticStatus.OK
    bench.spin_until(lambda: len(edges(bench, "patient")) == 3)
    assert bench.diagnostics("registration").level == DiagnosticStatus.OK


def test_the_nodes_own_transform_may_come_back_as_through_a_bridge(robot):
    bench, publish = robot()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(edges(bench, "patient")) == 1)
    publish("carm_optical", "patient", FIRST_STAMP, pose=KNOWN_POSE)
    assert len(edges(bench, "patient")) == 2
    assert bench.send_and_wait(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK


@pytest.mark.parametrize("damage", [b"\0\1\0\0\2\0\0\0patient\0", b"\0\1\0\0" + b"\xff" * 40 + b"patient\0"])
def test_a_damaged_message_on_tf_is_ignored(robot, capfd, damage):
    bench, _ = robot()
    publisher = bench.probe.create_publisher(TFMessage, "/tf", 10)
    bench.spin_until(lambda: publisher.get_subscription_count() >= 2)
    bench.probe.destroy_subscription(next(s for s in bench.probe.subscriptions if s.topic_name == "/tf"))  # it would raise
    publisher.publish(damage)
    bench.spin_for(0.3)
    assert "a message on /tf is damaged" in capfd.readouterr().err
    assert bench.send_and_wait(FIRST_STAMP).level == DiagnosticStatus.OK
