"""Input of the node: pairing, unreadable messages, dropped frames and quality of service."""

import re
import threading

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import FakeTracker
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, SIZE, K, camera_info, image, key_values
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image as ImageMessage

pytestmark = pytest.mark.ros


def test_camera_info_may_arrive_after_its_image(bench):
    bench.image_publisher.publish(image(FIRST_STAMP))
    bench.spin_for(0.2)
    assert not bench.tracker.images
    bench.camera_info_publisher.publish(camera_info(FIRST_STAMP))
    bench.spin_until(lambda: len(bench.transforms()) == 1)


def test_an_exception_in_the_core_rejects_only_that_frame(make_bench):
    tracker = FakeTracker()

    def fail_once():
        if len(tracker.images) == 1:
            raise ZeroDivisionError("a defect")

    tracker.before_result = fail_once
    bench = make_bench(tracker)
    bench.activate()
    status = bench.send_and_wait(FIRST_STAMP)
    assert "internal error (ZeroDivisionError" in status.message
    assert not bench.transforms()
    assert bench.send_and_wait(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_frame_for_which_the_memory_does_not_suffice_is_rejected_with_a_sentence(make_bench, error):
    tracker = FakeTracker()

    def fail_once():
        if len(tracker.images) == 1:
            raise error

    tracker.before_result = fail_once
    bench = make_bench(tracker)
    bench.activate()
    status = bench.send_and_wait(FIRST_STAMP)
    assert status.message.startswith("the memory does not suffice for this CT and image; end other programs on this device")
    assert not bench.transforms()
    assert bench.send_and_wait(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding"),
        ({"step": 1}, "step"),
        ({"width": SIZE - 1, "step": 2 * SIZE - 2}, "camera"),
    ],
)
def test_an_unreadable_image_is_rejected_with_a_reason(bench, change, expected):
    message = image(FIRST_STAMP)
    for name, value in change.items():
        setattr(message, name, value)
    bench.camera_info_publisher.publish(camera_info(FIRST_STAMP))
    bench.image_publisher.publish(message)
    bench.spin_until(lambda: len(bench.results()) == 1)
    assert expected in bench.results()[0]["reason"]
    assert not bench.tracker.images


def test_nan_in_k_is_rejected_with_a_reason(bench):
    info = camera_info(FIRST_STAMP)
    info.k = [float("nan"), *K[1:]]
    bench.camera_info_publisher.publish(info)
    bench.image_publisher.publish(image(FIRST_STAMP))
    bench.spin_until(lambda: len(bench.results()) == 1)
    assert "K must contain nine finite numbers" in bench.results()[0]["reason"]


def test_only_the_newest_frame_is_kept_while_another_is_processed(make_bench):
    tracker, release = FakeTracker(), threading.Event()
    tracker.before_result = lambda: release.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.spin_until(lambda: len(tracker.images) == 1)
    for step in (1, 2, 3):
        bench.send(FIRST_STAMP + step * FRAME_NS)
        bench.spin_for(0.1)
    release.set()
    bench.spin_until(lambda: len(bench.transforms()) == 2)
    bench.spin_for(0.2)
    assert [int(values["stamp_ns"]) for values in bench.results()] == [FIRST_STAMP, FIRST_STAMP + 3 * FRAME_NS]
    assert key_values(bench.diagnostics("input"))["dropped"] == "2"


def test_images_without_camera_info_cause_a_warning(make_bench):
    bench = make_bench(camera_info_timeout=0.3)
    bench.activate()
    bench.probe.create_timer(0.05, lambda: bench.send(FIRST_STAMP, info=False))
    bench.spin_until(lambda: bench.diagnostics("input").level == DiagnosticStatus.WARN)
    message = bench.diagnostics("input").message
    assert message.startswith("/image has no CameraInfo on /camera_info for 0.3 s (images ")
    assert "infos 0, pairs 0" in message
    assert not bench.transforms()


def test_a_camera_that_dies_is_reported(make_bench):
    bench = make_bench(image_timeout=1.5, valid_timeout=0.3)
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    assert bench.diagnostics("input").level == DiagnosticStatus.OK
    bench.spin_until(lambda: bench.diagnostics("input").level == DiagnosticStatus.WARN, 5.0)
    assert re.fullmatch(r"no image on /image for \d+\.\d s: its publisher is silent", bench.diagnostics("input").message)
    assert "the last image was accepted" in bench.diagnostics("registration").message
    bench.probe.destroy_publisher(bench.image_publisher)
    bench.spin_until(lambda: "nothing publishes there" in bench.diagnostics("input").message, 5.0)
    assert key_values(bench.diagnostics("input"))["publishers"] == "0"


def test_an_incompatible_publisher_is_an_error_in_the_diagnostics(make_bench, capfd):
    bench = make_bench(qos__image="reliable", arguments=["-r", "image:=/carm/image_raw"])
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    bench.probe.create_publisher(ImageMessage, "/carm/image_raw", best_effort)
    assert bench.node.trigger_configure() == bench.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    status = bench.diagnostics("input")
    assert status.level == DiagnosticStatus.ERROR
    assert "qos.image" in status.message
    assert "a publisher on /carm/image_raw has a QoS incompatible" in capfd.readouterr().err


def test_ros_parameters_override_the_qos_of_the_node(make_bench):
    bench = make_bench(arguments=["-p", "qos_overrides./camera_info.subscription.reliability:=reliable"])
    bench.activate()
    info = next(i for i in bench.probe.get_subscriptions_info_by_topic("/camera_info") if i.node_name == "registration_node")
    assert info.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    assert bench.probe.count_subscribers("/camera_info") == 1
    assert isinstance(camera_info(1), CameraInfo)
