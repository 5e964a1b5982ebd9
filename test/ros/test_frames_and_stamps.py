"""Stamps and frame names: which images are accepted, and how their transforms are stamped and named."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import FIRST_STAMP, FRAME_NS, camera_info, image, key_values

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
