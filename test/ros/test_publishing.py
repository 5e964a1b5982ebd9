"""Output of the active node: transforms, poses, results, markers and images."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import KNOWN_POSE, FakeTracker, block_ct
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, SIZE, K, camera_info, key_values
from rclpy.lifecycle import TransitionCallbackReturn
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image as ImageMessage
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.registration import Outcome, RegistrationResult
from fluoro_reg.ros import conversions

pytestmark = pytest.mark.ros


def test_a_landmark_projects_to_its_pixel_through_tf_and_camera_info(bench):
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 1)
    message = bench.transforms()[0]
    landmark_patient_mm = torch.tensor([[20.0, -15.0, 40.0]], dtype=torch.float64)
    point_camera = KNOWN_POSE.apply(landmark_patient_mm)[0]
    expected_pixel = [K[0] * point_camera[0] / point_camera[2] + K[2], K[4] * point_camera[1] / point_camera[2] + K[5]]

    t, q = message.transform.translation, message.transform.rotation
    rotation = Rotation.from_quat([q.x, q.y, q.z, q.w])  # scipy uses the order of ROS
    x, y, z = rotation.apply(landmark_patient_mm[0].numpy() / 1000) + np.array([t.x, t.y, t.z])
    info = camera_info(FIRST_STAMP)
    pixel = [info.k[0] * x / z + info.k[2], info.k[4] * y / z + info.k[5]]

    assert (message.header.frame_id, message.child_frame_id) == ("carm_optical", "patient")
    assert conversions.stamp_ns(message.header.stamp) == FIRST_STAMP
    assert pixel == pytest.approx([float(p) for p in expected_pixel], abs=1e-6)


def test_an_accepted_frame_is_published_on_every_topic(bench):
    status = bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.received["pose"]) == 1 and bench.received["valid"][-1].data)
    values = key_values(status)
    assert status.level == DiagnosticStatus.OK
    assert status.message == "all gates hold"
    assert values["accepted"] == "true"
    assert values["stamp_ns"] == str(FIRST_STAMP)
    assert float(values["latency_s"]) < 5
    pose = bench.received["pose"][0]
    assert conversions.stamp_ns(pose.header.stamp) == FIRST_STAMP
    assert pose.pose.pose.position.z == pytest.approx(float(KNOWN_POSE.translation[2]) / 1000)
    assert list(pose.pose.covariance)[::7] == pytest.approx([1e-6, 4e-6, 9e-6, 1e-4, 1e-4, 1e-4])


def test_a_blank_frame_has_a_result_with_a_reason_but_no_transform(bench):
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: bench.received["valid"][-1].data)
    status = bench.send_and_wait(FIRST_STAMP + FRAME_NS, blank=True)
    bench.spin_until(lambda: not bench.received["valid"][-1].data)
    bench.spin_for(0.2)
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "the image is blank"
    assert len(bench.transforms()) == len(bench.received["pose"]) == 1


def test_an_ambiguous_result_is_not_published(make_bench):
    tracker = FakeTracker()
    tracker.update = lambda image: RegistrationResult(Outcome.AMBIGUOUS, "another pose fits as well", "fake", KNOWN_POSE)
    bench = make_bench(tracker)
    bench.activate()
    assert bench.send_and_wait(FIRST_STAMP).level == DiagnosticStatus.WARN
    bench.spin_for(0.2)
    assert not bench.transforms()
    assert not bench.received["pose"]


def test_valid_becomes_false_when_images_stop(make_bench):
    bench = make_bench(valid_timeout=0.3)
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: bench.received["valid"][-1].data)
    bench.spin_until(lambda: not bench.received["valid"][-1].data)


def test_an_installed_tf2_ros_sends_the_transforms(make_bench, monkeypatch):
    broadcasters = []

    class TransformBroadcaster:
        def __init__(self, node):
            self.pub_tf = node.create_publisher(TFMessage, "/tf", 100)
            broadcasters.append(self)

        def sendTransform(self, transforms):  # noqa: N802
            self.pub_tf.publish(TFMessage(transforms=transforms))

    monkeypatch.setitem(sys.modules, "tf2_ros", SimpleNamespace(TransformBroadcaster=TransformBroadcaster))
    bench = make_bench()
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 1)
    assert len(broadcasters) == 1
    assert bench.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    bench.send(FIRST_STAMP + FRAME_NS)
    bench.spin_for(0.3)
    assert len(bench.transforms()) == 1


def test_publishing_on_tf_can_be_disabled(make_bench):
    bench = make_bench(tf__enable="false")
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.received["pose"]) == 1)
    assert bench.probe.count_publishers("/tf") == 0
    names = dict(bench.probe.get_subscriber_names_and_types_by_node("registration_node", "/"))
    assert "/image" in names
    assert not {"/tf", "/tf_static"} & set(names)


def test_markers_show_the_box_of_the_ct_in_metres(bench):
    markers = []
    bench.probe.create_subscription(MarkerArray, "registration_node/markers", markers.append, 1)
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(markers) == 1)
    ct, camera = markers[0].markers
    extent = [max(getattr(p, axis) for p in ct.points) - min(getattr(p, axis) for p in ct.points) for axis in "xyz"]
    assert extent == pytest.approx([0.060, 0.040, 0.030])  # 30 x 20 x 10 voxels of 2 x 2 x 3 mm
    assert (ct.header.frame_id, camera.header.frame_id) == ("patient", "carm_optical")
    assert len(ct.points) == 24
    assert len(camera.points) == 16


def test_overlay_and_drr_are_rendered_only_while_subscribed(make_bench):
    tracker = FakeTracker()
    bench = make_bench(tracker, ct=block_ct(), debug__rate=100.0)
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_for(0.3)  # the worker checks for subscribers shortly after it has published the result
    images = {"overlay": [], "drr": []}
    for name, messages in images.items():
        bench.probe.create_subscription(ImageMessage, f"registration_node/{name}", messages.append, 1)
        bench.spin_until(lambda topic=f"/registration_node/{name}": bench.probe.count_publishers(topic) == 1)
    bench.spin_for(0.3)
    assert images == {"overlay": [], "drr": []}
    bench.send_and_wait(FIRST_STAMP + FRAME_NS)
    bench.spin_until(lambda: all(images.values()))
    overlay, drr = images["overlay"][0], images["drr"][0]
    assert (overlay.encoding, overlay.width, overlay.height) == ("rgb8", SIZE, SIZE)
    assert (drr.encoding, drr.width, drr.height) == ("mono8", SIZE, SIZE)
    assert conversions.stamp_ns(drr.header.stamp) == conversions.stamp_ns(overlay.header.stamp) == FIRST_STAMP + FRAME_NS
    grey = np.frombuffer(drr.data, np.uint8).reshape(SIZE, SIZE)
    u, v = (
        round(float(x)) for x in CameraIntrinsics.from_k(SIZE, SIZE, K).project(KNOWN_POSE.apply(torch.zeros(1, 3).double()))[0]
    )
    assert grey[v, u] < 50 < 200 < grey[0, 0]  # the shadow of the block is where the pose projects it
