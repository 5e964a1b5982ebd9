"""Faults of what surrounds the node: other publishers, clocks, recordings, QoS, and its own lifecycle."""

import signal
import time

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.faulty_world import SECOND, TRANSITIONS
from helpers.ros_bench import KNOWN_POSE
from helpers.ros_probe import FIRST_STAMP, FRAME_NS
from helpers.ros_processes import fake_node
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from fluoro_reg.ros import conversions
from fluoro_reg.ros.outputs import VALID_PROFILE

pytestmark = [pytest.mark.ros, pytest.mark.faults]


def test_another_publisher_of_the_frame_silences_the_node_until_a_reset(make_world, rows):
    world = make_world()
    world.accept_one()
    publisher = world.probe.probe.create_publisher(TFMessage, "/tf", 10)
    world.probe.spin_until(lambda: publisher.get_subscription_count() >= 2)
    message = conversions.transform_message(KNOWN_POSE, world.stamp, "table", "patient")
    publisher.publish(TFMessage(transforms=[message]))
    world.probe.spin_for(0.3)
    status = world.probe.send_and_wait(world.next_stamp())
    assert "another node publishes 'patient' below 'table'" in status.message
    world.probe.call(Trigger, "reset")
    world.accept_one()
    rows.append(("another node publishes 'patient' on /tf", "nothing", status.message, "accepted after ~/reset"))


def test_a_camera_that_leaves_its_anchor_silences_the_node_until_it_is_back(make_world, rows):
    world = make_world("-p", "tf.mode:=anchored", "-p", "frames.anchor:=robot_base", "-p", "tf.timeout:=0.2")
    publisher = world.probe.probe.create_publisher(TFMessage, "/tf", 10)
    world.probe.spin_until(lambda: publisher.get_subscription_count() >= 2)

    def place(stamp: int) -> None:
        message = conversions.transform_message(KNOWN_POSE, stamp, "robot_base", "carm_optical")
        publisher.publish(TFMessage(transforms=[message]))
        world.probe.spin_for(0.1)

    place(world.stamp + FRAME_NS)
    world.accept_one()
    status = world.probe.send_and_wait(world.next_stamp())
    assert "ends 0.067 s before the image's stamp" in status.message
    rows.append(("anchored: the camera's place stops", "nothing", status.message, "accepted when it is back"))
    place(world.stamp + 11 * FRAME_NS)
    world.stamp += 5 * FRAME_NS
    status = world.probe.send_and_wait(world.stamp)
    assert "has a gap of" in status.message
    rows.append(("anchored: a gap of 0.7 s in the camera's place", "nothing", status.message, "accepted after the gap"))
    world.stamp += 5 * FRAME_NS
    world.accept_one()


def test_a_publisher_of_another_qos_is_reported(make_world, rows):
    world = make_world("-p", "qos.image:=reliable")
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    world.probe.probe.create_publisher(Image, "image", best_effort)
    world.probe.spin_until(lambda: world.probe.diagnostics("input").level == DiagnosticStatus.ERROR)
    rows.append(("best-effort publisher, qos.image: reliable", "-", world.probe.diagnostics("input").message, "goes on"))
    world.accept_one()


def test_a_clock_that_jumps_is_followed(make_world, rows):
    world = make_world("-p", "use_sim_time:=true")
    clock = world.probe.probe.create_publisher(Clock, "/clock", 10)
    world.probe.spin_until(lambda: clock.get_subscription_count() > 0)
    status = world.probe.send_and_wait(world.next_stamp())
    assert "no time has arrived on /clock" in status.message
    rows.append(("use_sim_time without /clock", "nothing", status.message, "accepted when the clock runs"))
    for name, ahead, stamp in (
        ("the clock begins", 10 * FRAME_NS, FIRST_STAMP + 8 * FRAME_NS),
        ("the clock goes back by 10 s", -10 * SECOND, FIRST_STAMP - 10 * SECOND),
        ("the clock goes ahead by an hour", 3600 * SECOND, FIRST_STAMP + 3600 * SECOND),
    ):
        clock.publish(Clock(clock=conversions.time_message(FIRST_STAMP + ahead)))
        world.probe.spin_for(0.5)
        status = world.probe.send_and_wait(stamp)
        assert status.level == DiagnosticStatus.OK, status.message
        rows.append((name, "the pose", status.message, "goes on"))


def test_a_bag_that_loops_restarts_tracking(make_world, rows):
    world = make_world("-p", "restart_after:=0.5")
    stamps = [FIRST_STAMP + n * FRAME_NS for n in range(5)]
    for stamp in stamps:
        world.probe.send_and_wait(stamp)
    world.probe.spin_for(0.6)
    reasons = [world.probe.send_and_wait(stamp).message for stamp in stamps]
    assert reasons[-1] == "all gates hold"
    world.node.wait_for_log("the stamps went back in time, as in a looping bag; tracking restarts")
    rows.append(("a bag of 0.3 s loops", "poses again from the third frame on", reasons[0], "tracking restarts"))


def test_a_hundred_cycles_of_the_lifecycle_leave_nothing_behind(make_world, rows):
    world = make_world(autostart=False)
    world.probe.spin_until(lambda: "registration_node" in world.probe.probe.get_node_names())
    for _ in range(5):
        for name in TRANSITIONS:
            world.change(name)
    before = world.node.resources()
    for _ in range(100):
        for name in TRANSITIONS:
            world.change(name)
    after = world.node.resources()
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1]
    assert after[2] <= before[2] + 20
    world.change("configure")
    world.change("activate")
    world.probe.wait_until_connected()
    world.accept_one()
    said = (
        f"descriptors {before[0]} -> {after[0]}, threads {before[1]} -> {after[1]}, memory {before[2]:.0f} -> {after[2]:.0f} MB"
    )
    rows.append(("100 times configure, activate, deactivate, cleanup", "-", said, "a frame is accepted"))


def test_a_node_of_the_same_name_does_not_stop_the_first(make_world, start, rows):
    world = make_world()
    world.accept_one()
    second = start(fake_node("-p", "autostart:=false"))
    second.wait_for_log("unconfigured")
    world.accept_one()
    assert rclpy.ok()
    rows.append(("a second, unconfigured node of the same name", "the poses", "-", "goes on"))


def test_a_defect_of_the_core_rejects_only_that_frame(make_world, rows):
    world = make_world(tracker="raises")
    world.accept_one()
    world.accept_one()
    status = world.probe.send_and_wait(world.next_stamp())
    assert "internal error (ZeroDivisionError" in status.message
    world.node.wait_for_log("logged once")
    world.accept_one()
    rows.append(("an exception in the core", "nothing", status.message, "the next frame is accepted"))


def test_a_node_that_is_killed_is_missed(make_world, rows):
    world = make_world()
    lost: list[float] = []
    events = SubscriptionEventCallbacks(liveliness=lambda event: event.alive_count == 0 and lost.append(time.monotonic()))
    world.probe.probe.create_subscription(
        Bool, "registration_node/valid", lambda _: None, VALID_PROFILE, event_callbacks=events
    )
    world.accept_one()
    world.probe.spin_for(0.5)
    world.node.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    world.probe.spin_until(lambda: bool(lost))
    said = f"liveliness of ~/valid is lost after {lost[0] - killed:.1f} s"
    rows.append(("killed (SIGKILL), with a consumer that requests liveliness", "nothing more", said, "-"))


@pytest.mark.parametrize(("kind", "expected"), [("sleeps", 3), ("holds", 1)])
def test_a_registration_that_hangs_ends_the_node(make_world, rows, kind, expected):
    world = make_world("-p", "computation_timeout:=1.0", tracker=kind)
    world.accept_one()
    world.accept_one()
    stamp = world.next_stamp()
    world.probe.send(stamp)
    assert world.node.wait(20) == expected
    world.probe.spin_for(0.3)
    assert stamp not in world.stamps_on_tf()
    name = "a registration hangs" if kind == "sleeps" else "a registration hangs in native code that holds the interpreter"
    said = world.probe.results()[-1]["reason"] if kind == "sleeps" else "the stacks of its threads, on standard error"
    rows.append((name, "nothing more", said, f"the process ends with status {expected}"))


def test_a_deactivation_does_not_wait_for_ever_for_a_registration(make_world, rows):
    world = make_world(tracker="sleeps")
    world.accept_one()
    world.accept_one()
    world.probe.send(world.next_stamp())
    world.probe.spin_for(0.5)
    client = world.probe.probe.create_client(ChangeState, "registration_node/change_state")
    world.probe.spin_until(client.service_is_ready)
    client.call_async(ChangeState.Request(transition=Transition(id=TRANSITIONS["deactivate"])))
    line = world.node.wait_for_log("cannot deactivate: the current frame was not finished within 30 s; the node ends itself")
    assert world.node.wait(10) == 3
    world.probe.spin_for(0.2)
    assert not world.probe.received["valid"][-1].data
    rows.append(
        ("deactivated while a registration hangs", "nothing more", line.split("]: ")[-1], "the process ends with status 3")
    )
