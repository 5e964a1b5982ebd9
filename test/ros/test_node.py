"""The node with real rclpy and a tracker whose answer is known."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from helpers.ros_bench import FIRST_STAMP, FRAME_NS, KNOWN_POSE, SIZE, FakeTracker, K, block_ct, camera_info, image, values_of
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image as ImageMessage
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.registration import Outcome, RegistrationResult
from fluoro_reg.ros import conversions

pytestmark = pytest.mark.ros


def call(bench, service_type, name, request=None):
    client = bench.probe.create_client(service_type, f"registration_node/{name}")
    bench.until(client.service_is_ready)
    future = client.call_async(request or service_type.Request())
    bench.until(future.done)
    bench.probe.destroy_client(client)
    return future.result()


def state_of(bench):
    return call(bench, GetState, "get_state").current_state.id


def test_a_landmark_goes_through_the_transform_and_camera_info_to_its_pixel(bench):
    bench.answered(FIRST_STAMP)
    bench.until(lambda: len(bench.transforms()) == 1)
    message = bench.transforms()[0]
    landmark_patient_mm = torch.tensor([[20.0, -15.0, 40.0]], dtype=torch.float64)
    known_camera = KNOWN_POSE.apply(landmark_patient_mm)[0]
    known_pixel = [K[0] * known_camera[0] / known_camera[2] + K[2], K[4] * known_camera[1] / known_camera[2] + K[5]]

    t, q = message.transform.translation, message.transform.rotation
    rotation = Rotation.from_quat([q.x, q.y, q.z, q.w])  # scipy's order is that of ROS
    x, y, z = rotation.apply(landmark_patient_mm[0].numpy() / 1000) + np.array([t.x, t.y, t.z])
    info = camera_info(FIRST_STAMP)
    seen_pixel = [info.k[0] * x / z + info.k[2], info.k[4] * y / z + info.k[5]]

    assert (message.header.frame_id, message.child_frame_id) == ("carm_optical", "patient")
    assert conversions.stamp_ns(message.header.stamp) == FIRST_STAMP
    assert seen_pixel == pytest.approx([float(p) for p in known_pixel], abs=1e-6)


def test_an_accepted_frame_is_on_every_topic(bench):
    status = bench.answered(FIRST_STAMP)
    bench.until(lambda: len(bench.heard["pose"]) == 1 and bench.heard["valid"][-1].data)
    values = values_of(status)
    assert status.level == DiagnosticStatus.OK
    assert status.message == "all gates hold"
    assert values["accepted"] == "true"
    assert values["stamp_ns"] == str(FIRST_STAMP)
    assert float(values["latency_s"]) < 5
    pose = bench.heard["pose"][0]
    assert conversions.stamp_ns(pose.header.stamp) == FIRST_STAMP
    assert pose.pose.pose.position.z == pytest.approx(float(KNOWN_POSE.translation[2]) / 1000)
    assert list(pose.pose.covariance)[::7] == pytest.approx([1e-6, 4e-6, 9e-6, 1e-4, 1e-4, 1e-4])


def test_a_blank_frame_gets_a_result_with_the_reason_but_no_transform(bench):
    bench.answered(FIRST_STAMP)
    bench.until(lambda: bench.heard["valid"][-1].data)
    status = bench.answered(FIRST_STAMP + FRAME_NS, blank=True)
    bench.until(lambda: not bench.heard["valid"][-1].data)
    bench.spin(0.2)
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "the image is blank"
    assert len(bench.transforms()) == len(bench.heard["pose"]) == 1


def test_info_may_come_after_its_image(bench):
    bench.images.publish(image(FIRST_STAMP))
    bench.spin(0.2)
    assert not bench.tracker.images
    bench.infos.publish(camera_info(FIRST_STAMP))
    bench.until(lambda: len(bench.transforms()) == 1)


def test_stamps_on_tf_are_strictly_increasing(bench):
    for step in (0, 1, 1, 0, 2, 3):
        bench.answered(FIRST_STAMP + step * FRAME_NS)
    bench.spin(0.2)
    stamps = [conversions.stamp_ns(t.header.stamp) for t in bench.transforms()]
    assert stamps == [FIRST_STAMP + step * FRAME_NS for step in (0, 1, 2, 3)]
    refused = [values["reason"] for values in bench.results() if values["accepted"] == "false"]
    assert refused == [
        "the stamp repeats that of the frame before",
        "the stamp is older than that of the frame before",
    ]
    values = values_of(bench.diagnostics("input"))
    assert (values["duplicate stamps"], values["late stamps"]) == ("1", "1")


def test_a_bag_that_loops_begins_anew(bench):
    for step in (0, 100, 0, 1, 2, 3):
        bench.answered(FIRST_STAMP + step * FRAME_NS)
    accepted = [int(values["stamp_ns"]) for values in bench.results() if values["accepted"] == "true"]
    assert accepted == [FIRST_STAMP + step * FRAME_NS for step in (0, 100, 2, 3)]
    assert bench.tracker.resets == 1


def test_a_frame_without_stamp_is_rejected(bench):
    assert "no stamp" in bench.answered(0).message
    assert not bench.tracker.images


def test_a_frame_without_frame_id_is_rejected(bench):
    bench.infos.publish(camera_info(FIRST_STAMP, frame_id=""))
    bench.images.publish(image(FIRST_STAMP, frame_id=""))
    bench.until(lambda: len(bench.results()) == 1)
    assert "frames.camera" in bench.results()[0]["reason"]
    assert not bench.transforms()


def test_a_configured_camera_frame_replaces_that_of_the_image(make_bench):
    bench = make_bench(frames__camera="xray", frames__patient="lps")
    bench.activate()
    bench.answered(FIRST_STAMP)
    bench.until(lambda: len(bench.transforms()) == 1)
    message = bench.transforms()[0]
    assert (message.header.frame_id, message.child_frame_id) == ("xray", "lps")


def test_the_time_offset_moves_every_stamp(make_bench):
    bench = make_bench(image_time_offset=-0.05)
    bench.activate()
    bench.answered(FIRST_STAMP)
    bench.until(lambda: len(bench.transforms()) == 1)
    assert conversions.stamp_ns(bench.transforms()[0].header.stamp) == FIRST_STAMP - 50_000_000


def test_an_old_image_is_rejected_when_an_age_is_set(make_bench):
    bench = make_bench(maximum_image_age=2.0)
    bench.activate()
    assert "maximum_image_age" in bench.answered(FIRST_STAMP).message
    now = bench.probe.get_clock().now().nanoseconds
    assert bench.answered(now).level == DiagnosticStatus.OK
    bench.until(lambda: len(bench.transforms()) == 1)


def test_an_exception_in_the_core_rejects_the_frame_and_the_next_one_is_well(make_bench):
    tracker = FakeTracker()

    def fail_once():
        if len(tracker.images) == 1:
            raise ZeroDivisionError("a defect")

    tracker.before_answer = fail_once
    bench = make_bench(tracker)
    bench.activate()
    status = bench.answered(FIRST_STAMP)
    assert "internal error (ZeroDivisionError" in status.message
    assert not bench.transforms()
    assert bench.answered(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding"),
        ({"step": 1}, "step"),
        ({"width": SIZE - 1, "step": 2 * SIZE - 2}, "camera"),
    ],
)
def test_an_image_that_cannot_be_read_is_rejected_with_a_sentence(bench, change, words):
    message = image(FIRST_STAMP)
    for name, value in change.items():
        setattr(message, name, value)
    bench.infos.publish(camera_info(FIRST_STAMP))
    bench.images.publish(message)
    bench.until(lambda: len(bench.results()) == 1)
    assert words in bench.results()[0]["reason"]
    assert not bench.tracker.images


def test_nan_in_k_is_rejected_with_a_sentence(bench):
    info = camera_info(FIRST_STAMP)
    info.k = [float("nan"), *K[1:]]
    bench.infos.publish(info)
    bench.images.publish(image(FIRST_STAMP))
    bench.until(lambda: len(bench.results()) == 1)
    assert "K must hold nine finite numbers" in bench.results()[0]["reason"]


def test_frames_that_come_while_one_is_in_work_are_dropped_but_the_newest(make_bench):
    tracker, may_go_on = FakeTracker(), threading.Event()
    tracker.before_answer = lambda: may_go_on.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.until(lambda: len(tracker.images) == 1)
    for step in (1, 2, 3):
        bench.send(FIRST_STAMP + step * FRAME_NS)
        bench.spin(0.1)
    may_go_on.set()
    bench.until(lambda: len(bench.transforms()) == 2)
    bench.spin(0.2)
    assert [int(values["stamp_ns"]) for values in bench.results()] == [FIRST_STAMP, FIRST_STAMP + 3 * FRAME_NS]
    assert values_of(bench.diagnostics("input"))["dropped"] == "2"


def test_images_without_camera_info_are_warned_of(make_bench):
    bench = make_bench(camera_info_timeout=0.3)
    bench.activate()
    bench.probe.create_timer(0.05, lambda: bench.send(FIRST_STAMP, info=False))
    bench.until(lambda: bench.diagnostics("input").level == DiagnosticStatus.WARN)
    message = bench.diagnostics("input").message
    assert message.startswith("/image has no CameraInfo on /camera_info for 0.3 s (images ")
    assert "infos 0, pairs 0" in message
    assert not bench.transforms()


def test_a_publisher_whose_qos_does_not_fit_is_named_in_the_diagnostics(make_bench):
    bench = make_bench(qos__image="reliable")
    best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    bench.probe.create_publisher(ImageMessage, "image", best_effort)
    bench.activate()
    status = bench.diagnostics("input")
    assert status.level == DiagnosticStatus.ERROR
    assert "qos.image" in status.message


def test_valid_turns_false_when_images_cease(make_bench):
    bench = make_bench(valid_timeout=0.3)
    bench.activate()
    bench.answered(FIRST_STAMP)
    bench.until(lambda: bench.heard["valid"][-1].data)
    bench.until(lambda: not bench.heard["valid"][-1].data)


def test_an_inactive_node_publishes_nothing_and_an_active_one_goes_on(bench):
    bench.answered(FIRST_STAMP)
    bench.until(lambda: len(bench.transforms()) == 1 and bench.heard["valid"][-1].data)
    assert bench.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    bench.until(lambda: not bench.heard["valid"][-1].data)
    bench.spin(0.2)
    heard = {name: len(messages) for name, messages in bench.heard.items()}
    for step in (1, 2, 3):
        bench.send(FIRST_STAMP + step * FRAME_NS)
    bench.spin(1.3)
    assert {name: len(messages) for name, messages in bench.heard.items()} == heard
    assert len(bench.tracker.images) == 1

    assert bench.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.until(lambda: bench.images.get_subscription_count() > 0 and bench.infos.get_subscription_count() > 0)
    assert bench.answered(FIRST_STAMP + 4 * FRAME_NS).level == DiagnosticStatus.OK


def test_every_transition_works_over_its_service(make_bench):
    bench = make_bench()
    for transition, state in (
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (Transition.TRANSITION_ACTIVE_SHUTDOWN, State.PRIMARY_STATE_FINALIZED),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert call(bench, ChangeState, "change_state", request).success
        assert state_of(bench) == state


def test_a_defect_in_configure_leaves_an_unconfigured_node(make_bench):
    bench = make_bench()

    def broken(*_):
        raise RuntimeError("a defect")

    bench.node._load = broken
    assert bench.node.trigger_configure() == TransitionCallbackReturn.ERROR
    assert state_of(bench) == State.PRIMARY_STATE_UNCONFIGURED


def test_reset_forgets_the_pose_even_of_the_frame_in_work(make_bench):
    tracker, may_go_on = FakeTracker(), threading.Event()
    tracker.before_answer = lambda: may_go_on.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.until(lambda: len(tracker.images) == 1)
    assert call(bench, Trigger, "reset").success
    may_go_on.set()
    bench.until(lambda: len(bench.results()) == 1)
    assert "reset" in bench.results()[0]["reason"]
    assert not bench.transforms()
    assert bench.answered(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK
    assert tracker.resets == 1


def test_a_disabled_node_answers_nothing_but_registers_once_when_asked(bench):
    assert call(bench, SetBool, "enable", SetBool.Request(data=False)).success
    bench.send(FIRST_STAMP)
    bench.spin(0.3)
    assert not bench.results()
    assert call(bench, Trigger, "register_once").success
    assert bench.answered(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK
    bench.send(FIRST_STAMP + 2 * FRAME_NS)
    bench.spin(0.3)
    assert len(bench.results()) == 1
    assert call(bench, SetBool, "enable", SetBool.Request(data=True)).success
    assert bench.answered(FIRST_STAMP + 3 * FRAME_NS).level == DiagnosticStatus.OK


def test_disabling_interrupts_the_frame_in_work_and_the_one_that_waits(make_bench):
    tracker, may_go_on = FakeTracker(), threading.Event()
    tracker.before_answer = lambda: may_go_on.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.until(lambda: len(tracker.images) == 1)
    bench.send(FIRST_STAMP + FRAME_NS)
    bench.spin(0.2)
    assert call(bench, SetBool, "enable", SetBool.Request(data=False)).success
    may_go_on.set()
    bench.spin(0.5)
    assert not bench.transforms()
    assert not any(message.data for message in bench.heard["valid"])
    assert len(tracker.images) == 1


def test_services_of_an_inactive_node_refuse_with_a_sentence(make_bench):
    answer = call(make_bench(), Trigger, "register_once")
    assert (answer.success, answer.message) == (False, "the node is not active")


def test_save_debug_writes_a_bundle_that_can_be_registered(make_bench, tmp_path):
    bench = make_bench(debug__folder=tmp_path)
    bench.activate()
    assert call(bench, Trigger, "save_debug").message == "no frame was registered yet"
    bench.answered(FIRST_STAMP)
    answer = call(bench, Trigger, "save_debug")
    assert answer.success
    assert str(tmp_path) not in answer.message
    bundle = tmp_path / str(FIRST_STAMP)
    assert {path.name for path in bundle.iterdir()} >= {"image.npy", "camera.json", "result.json"}


def test_save_debug_without_a_folder_says_which_parameter_to_set(bench):
    bench.answered(FIRST_STAMP)
    answer = call(bench, Trigger, "save_debug")
    assert not answer.success
    assert "debug.folder" in answer.message


def initial_pose(frame_id):
    return conversions.pose_message(KNOWN_POSE, None, FIRST_STAMP, frame_id)


@pytest.mark.parametrize("frame_id", ["carm_optical", ""])
def test_a_pose_on_initialpose_is_the_next_frames_start(bench, frame_id):
    publisher = bench.probe.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
    bench.until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(initial_pose(frame_id))
    bench.spin(0.2)
    bench.answered(FIRST_STAMP)
    assert len(bench.tracker.starts) == 1
    torch.testing.assert_close(bench.tracker.starts[0].matrix(), KNOWN_POSE.matrix())


@pytest.mark.parametrize("case", ["another frame", "no unit quaternion", "not finite"])
def test_an_unusable_initialpose_is_ignored(bench, case):
    message = initial_pose("table" if case == "another frame" else "carm_optical")
    if case == "no unit quaternion":
        message.pose.pose.orientation.w += 1.0
    if case == "not finite":
        message.pose.pose.position.x = float("nan")
    publisher = bench.probe.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
    bench.until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(message)
    bench.spin(0.2)
    bench.answered(FIRST_STAMP)
    assert not bench.tracker.starts


def test_markers_show_the_box_of_the_ct_in_metres(bench):
    markers = []
    bench.probe.create_subscription(MarkerArray, "registration_node/markers", markers.append, 1)
    bench.answered(FIRST_STAMP)
    bench.until(lambda: len(markers) == 1)
    ct, camera = markers[0].markers
    extent = [max(getattr(p, axis) for p in ct.points) - min(getattr(p, axis) for p in ct.points) for axis in "xyz"]
    assert extent == pytest.approx([0.060, 0.040, 0.030])  # 30 x 20 x 10 voxels of 2 x 2 x 3 mm
    assert (ct.header.frame_id, camera.header.frame_id) == ("patient", "carm_optical")
    assert len(ct.points) == 24
    assert len(camera.points) == 16


def test_pictures_are_made_only_while_somebody_looks(make_bench):
    tracker = FakeTracker()
    bench = make_bench(tracker, ct=block_ct(), debug__rate=100.0)
    bench.activate()
    bench.answered(FIRST_STAMP)
    bench.spin(0.3)  # the worker looks for subscribers a moment after the answer
    pictures = {"overlay": [], "drr": []}
    for name, messages in pictures.items():
        bench.probe.create_subscription(ImageMessage, f"registration_node/{name}", messages.append, 1)
        bench.until(lambda topic=f"/registration_node/{name}": bench.probe.count_publishers(topic) == 1)
    bench.spin(0.3)
    assert pictures == {"overlay": [], "drr": []}
    bench.answered(FIRST_STAMP + FRAME_NS)
    bench.until(lambda: all(pictures.values()))
    overlay, drr = pictures["overlay"][0], pictures["drr"][0]
    assert (overlay.encoding, overlay.width, overlay.height) == ("rgb8", SIZE, SIZE)
    assert (drr.encoding, drr.width, drr.height) == ("mono8", SIZE, SIZE)
    assert conversions.stamp_ns(drr.header.stamp) == conversions.stamp_ns(overlay.header.stamp) == FIRST_STAMP + FRAME_NS
    grey = np.frombuffer(drr.data, np.uint8).reshape(SIZE, SIZE)
    u, v = (
        round(float(x)) for x in CameraIntrinsics.from_k(SIZE, SIZE, K).project(KNOWN_POSE.apply(torch.zeros(1, 3).double()))[0]
    )
    assert grey[v, u] < 50 < 200 < grey[0, 0]  # the block's shadow is where the pose puts it


def test_an_ambiguous_result_is_not_published(make_bench):
    tracker = FakeTracker()
    tracker.update = lambda image: RegistrationResult(Outcome.AMBIGUOUS, "another pose fits as well", "fake", KNOWN_POSE)
    bench = make_bench(tracker)
    bench.activate()
    assert bench.answered(FIRST_STAMP).level == DiagnosticStatus.WARN
    bench.spin(0.2)
    assert not bench.transforms()
    assert not bench.heard["pose"]


def test_an_installed_tf2_ros_broadcasts(make_bench, monkeypatch):
    made = []

    class TransformBroadcaster:
        def __init__(self, node):
            self.pub_tf = node.create_publisher(TFMessage, "/tf", 100)
            made.append(self)

        def sendTransform(self, transform):  # noqa: N802
            self.pub_tf.publish(TFMessage(transforms=[transform]))

    monkeypatch.setitem(sys.modules, "tf2_ros", SimpleNamespace(TransformBroadcaster=TransformBroadcaster))
    bench = make_bench()
    bench.activate()
    bench.answered(FIRST_STAMP)
    bench.until(lambda: len(bench.transforms()) == 1)
    assert len(made) == 1
    assert bench.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    bench.send(FIRST_STAMP + FRAME_NS)
    bench.spin(0.3)
    assert len(bench.transforms()) == 1


def test_tf_can_be_switched_off(make_bench):
    bench = make_bench(tf__enable="false")
    bench.activate()
    bench.answered(FIRST_STAMP)
    bench.until(lambda: len(bench.heard["pose"]) == 1)
    assert bench.probe.count_publishers("/tf") == 0


def test_the_nodes_qos_can_be_overridden_by_ros_parameters(make_bench):
    bench = make_bench(arguments=["-p", "qos_overrides./camera_info.subscription.reliability:=reliable"])
    bench.activate()
    info = next(i for i in bench.probe.get_subscriptions_info_by_topic("/camera_info") if i.node_name == "registration_node")
    assert info.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    assert bench.probe.count_subscribers("/camera_info") == 1
    assert isinstance(camera_info(1), CameraInfo)
