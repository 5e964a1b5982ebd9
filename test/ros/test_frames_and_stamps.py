"""Stamps and frame names: which images are accepted, and how their transforms are stamped and named."""

import re

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from helpers.ros_bench import KNOWN_POSE
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, camera_info, image, key_values
from rclpy.lifecycle import TransitionCallbackReturn
from rosgraph_msgs.msg import Clock

from fluoro_reg.ros import conversions

pytestmark = pytest.mark.ros


def test_stamps_on_tf_are_strictly_increasing(bench):
    for step in (0, 1, 1, 0, 2, 3):
        bench.send_and_wait(FIRST_STAMP + step * FRAME_NS)
    bench.spin_for(0.2)
    stamps = [conversions.stamp_ns(t.header.stamp) for t in bench.transforms()]
    assert stamps == [FIRST_STAMP + step * FRAME_NS for step in (0, 1, 2, 3)]
    rejected = [values["reason"] for values in bench.results() if values["accepted"] == "false"]
    assert rejected == [
        "the stamp equals that of the previous frame",
        "the stamp is older than that of an earlier frame",
    ]
    values = key_values(bench.diagnostics("input"))
    assert (values["duplicate stamps"], values["late stamps"]) == ("1", "1")


def test_a_looping_bag_restarts_tracking(bench):
    for step in (0, 100, 0, 1, 2, 3):
        bench.send_and_wait(FIRST_STAMP + step * FRAME_NS)
    accepted = [int(values["stamp_ns"]) for values in bench.results() if values["accepted"] == "true"]
    assert accepted == [FIRST_STAMP + step * FRAME_NS for step in (0, 100, 2, 3)]
    assert bench.tracker.resets == 1


def test_a_frame_without_a_stamp_is_rejected(bench):
    assert "no stamp" in bench.send_and_wait(0).message
    assert not bench.tracker.images


def test_a_stamp_in_the_future_is_rejected(bench):
    now = bench.probe.get_clock().now().nanoseconds
    assert "maximum_image_ahead" in bench.send_and_wait(now + 5 * conversions.NS_PER_S).message
    assert bench.send_and_wait(now).level == DiagnosticStatus.OK  # the future stamp has not made it late
    bench.spin_until(lambda: len(bench.transforms()) == 1)
    assert key_values(bench.diagnostics("input"))["future stamps"] == "1"


def test_a_short_bag_restarts_tracking_when_it_loops(make_bench):
    bench = make_bench(restart_after=0.3)
    bench.activate()
    stamps = [FIRST_STAMP + step * FRAME_NS for step in range(4)]  # 0.2 s
    for stamp in stamps:
        bench.send_and_wait(stamp)
    bench.spin_for(0.4)
    for stamp in stamps:
        bench.send_and_wait(stamp)
    accepted = [int(values["stamp_ns"]) for values in bench.results() if values["accepted"] == "true"]
    assert accepted == [*stamps, *stamps[2:]]
    assert bench.tracker.resets == 1


def test_a_clock_that_goes_back_restarts_tracking(make_bench):
    bench = make_bench(use_sim_time="true")
    clock = bench.probe.create_publisher(Clock, "/clock", 10)
    bench.activate()

    def set_clock(stamp):
        clock.publish(Clock(clock=conversions.time_message(stamp)))
        bench.spin_until(lambda: bench.node.get_clock().now().nanoseconds == stamp)

    assert "no time has arrived on /clock" in bench.send_and_wait(FIRST_STAMP).message
    set_clock(FIRST_STAMP + 10 * FRAME_NS)
    assert bench.send_and_wait(FIRST_STAMP + 10 * FRAME_NS).level == DiagnosticStatus.OK
    set_clock(FIRST_STAMP)
    assert bench.send_and_wait(FIRST_STAMP).level == DiagnosticStatus.OK
    assert bench.tracker.resets == 1


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"frames__patient": "''"}, "frames.patient is empty"),
        ({"frames__patient": "/patient"}, "frames.patient is '/patient', but .* write 'patient'"),
        ({"frames__camera": "/carm"}, "frames.camera is '/carm', but .* write 'carm'"),
        ({"frames__camera": "patient"}, "frames.patient and frames.camera are both 'patient'"),
        ({"frames__patient": "'patient '"}, "with spaces at its ends"),
        ({"tf__mode": "anchored"}, "frames.anchor is empty; set it to the parent"),
        ({"tf__mode": "anchored", "frames__anchor": "/table"}, "frames.anchor is '/table'"),
        ({"tf__mode": "anchored", "frames__anchor": "patient"}, "frames.patient and frames.anchor are both 'patient'"),
        ({"tf__fuse": True}, "tf.fuse needs a frame that stays still, but tf.mode is direct; set it to anchored"),
    ],
)
def test_frames_that_tf2_would_refuse_fail_configure_with_a_sentence(make_bench, capfd, parameters, sentence):
    bench = make_bench(**parameters)
    assert bench.node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert re.search(f"cannot configure: .*{sentence}", capfd.readouterr().err)


def test_an_image_whose_frame_is_the_patients_is_rejected(bench):
    bench.camera_info_publisher.publish(camera_info(FIRST_STAMP, frame_id="patient"))
    bench.image_publisher.publish(image(FIRST_STAMP, frame_id="patient"))
    bench.spin_until(lambda: len(bench.results()) == 1)
    assert "the image's frame_id is 'patient', as is frames.patient" in bench.results()[0]["reason"]
    assert not bench.tracker.images


@pytest.mark.parametrize(("of_image", "of_pose"), [("/carm_optical", "carm_optical"), ("carm_optical", "/carm_optical")])
def test_a_leading_slash_of_a_frame_id_is_removed(bench, capfd, of_image, of_pose):
    publisher = bench.probe.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
    bench.spin_until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(conversions.pose_message(KNOWN_POSE, None, FIRST_STAMP, of_pose))
    bench.spin_for(0.2)
    for step in range(2):
        stamp = FIRST_STAMP + step * FRAME_NS
        bench.camera_info_publisher.publish(camera_info(stamp))
        bench.image_publisher.publish(image(stamp, frame_id=of_image))
        bench.spin_until(lambda count=step + 1: len(bench.transforms()) == count)
    assert {t.header.frame_id for t in bench.transforms()} == {"carm_optical"}
    assert len(bench.tracker.initial_poses) == 1
    assert capfd.readouterr().err.count("begins with a slash") == (of_image[0] == "/")


def test_a_frame_without_a_frame_id_is_rejected(bench):
    bench.camera_info_publisher.publish(camera_info(FIRST_STAMP, frame_id=""))
    bench.image_publisher.publish(image(FIRST_STAMP, frame_id=""))
    bench.spin_until(lambda: len(bench.results()) == 1)
    assert "frames.camera" in bench.results()[0]["reason"]
    assert not bench.transforms()


def test_a_configured_camera_frame_overrides_the_frame_id_of_the_image(make_bench):
    bench = make_bench(frames__camera="xray", frames__patient="lps")
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 1)
    message = bench.transforms()[0]
    assert (message.header.frame_id, message.child_frame_id) == ("xray", "lps")


def test_the_time_offset_is_added_to_the_stamp(make_bench):
    bench = make_bench(image_time_offset=-0.05)
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 1)
    assert conversions.stamp_ns(bench.transforms()[0].header.stamp) == FIRST_STAMP - 50_000_000


def test_an_old_image_is_rejected_when_a_maximum_age_is_set(make_bench):
    bench = make_bench(maximum_image_age=2.0)
    bench.activate()
    assert "maximum_image_age" in bench.send_and_wait(FIRST_STAMP).message
    now = bench.probe.get_clock().now().nanoseconds
    assert bench.send_and_wait(now).level == DiagnosticStatus.OK
    bench.spin_until(lambda: len(bench.transforms()) == 1)
