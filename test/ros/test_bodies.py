"""Bones with poses of their own: a frame for each accepted body on /tf, and a status for each on ~/result."""

import json
import signal

import pytest
import torch
from helpers.body_parts import FRAMES, NAMES, BodiesFakeTracker, block_bodies, pose_of
from helpers.ros_bench import block_ct
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, Probe, key_values
from helpers.ros_processes import fake_node, ros_program
from sensor_msgs.msg import Image as ImageMessage
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.ros import conversions
from fluoro_reg.ros.frame_tree import FrameTree
from fluoro_reg.ros.session import Session

pytestmark = pytest.mark.ros


@pytest.fixture
def tracker():
    return BodiesFakeTracker(rejected={"femur_right"})


@pytest.fixture
def make(make_bench, tracker):
    """Make a node whose tracker answers with four bodies, one of them rejected."""

    def bench(**parameters):
        ct, bodies = block_ct(), block_bodies()
        return make_bench(tracker, load=lambda *_: Session(ct, tracker, "fake", bodies), **parameters)

    return bench


@pytest.fixture
def active(make):
    result = make()
    result.activate()
    return result


def tree_of(bench):
    tree = FrameTree(maximum_gap_s=0.2)
    for transform in bench.transforms():
        tree.add(transform, is_static=False)
    return tree


def statuses(bench):
    return {key_values(status).get("body", ""): status for status in bench.received["result"][-1].status}


def test_every_accepted_body_has_its_frame_on_tf_with_the_images_stamp(active):
    active.send_and_wait(FIRST_STAMP)
    active.spin_until(lambda: len(active.transforms()) == 3)
    assert len(active.received["tf"]) == 1  # all bodies of a frame are in one message
    for transform in active.transforms():
        assert transform.header.frame_id == "carm_optical"
        assert conversions.stamp_ns(transform.header.stamp) == FIRST_STAMP
    assert {t.child_frame_id for t in active.transforms()} == {"pelvis_link", "femur_left", "L5"}
    tree = tree_of(active)
    for name in ("pelvis", "femur_left", "L5"):
        found = tree.lookup("carm_optical", FRAMES[name], FIRST_STAMP, 0.0)
        torch.testing.assert_close(found.matrix(), pose_of(name).matrix())


def test_a_rejected_body_publishes_nothing_and_the_others_go_on(active, tracker):
    active.send_and_wait(FIRST_STAMP)
    tracker.rejected = {"L5"}
    active.send_and_wait(FIRST_STAMP + FRAME_NS)
    active.spin_until(lambda: len(active.transforms()) == 6)
    stamps = {name: [] for name in FRAMES.values()}
    for transform in active.transforms():
        stamps[transform.child_frame_id].append(conversions.stamp_ns(transform.header.stamp) - FIRST_STAMP)
    assert stamps == {
        "pelvis_link": [0, FRAME_NS],
        "femur_left": [0, FRAME_NS],
        "femur_right": [FRAME_NS],
        "L5": [0],
    }


def test_the_result_has_a_status_for_each_body(active):
    active.send_and_wait(FIRST_STAMP)
    found = statuses(active)
    assert list(found) == ["", *NAMES]
    assert {name: key_values(found[name])["accepted"] for name in NAMES} == {
        "pelvis": "true",
        "femur_left": "true",
        "femur_right": "false",
        "L5": "true",
    }
    assert key_values(found["femur_right"])["reason"] == found["femur_right"].message == "out of the field"
    assert key_values(found["pelvis"])["frame_id"] == "pelvis_link"
    assert found["L5"].name == "registration_node: body L5"


def test_pose_and_valid_speak_of_the_reference(active, tracker):
    active.send_and_wait(FIRST_STAMP)
    active.spin_until(lambda: active.received["valid"][-1].data and len(active.received["pose"]) == 1)
    assert active.received["pose"][0].pose.pose.position.x == pytest.approx(float(pose_of("pelvis").translation[0]) / 1000)
    tracker.rejected = {"pelvis"}
    active.send_and_wait(FIRST_STAMP + FRAME_NS)
    active.spin_until(lambda: not active.received["valid"][-1].data)
    active.spin_for(0.2)
    assert len(active.received["pose"]) == 1
    assert len(active.transforms()) == 3  # those of the first frame


def test_a_frame_without_any_result_of_bodies_rejects_all_of_them(active):
    active.send_and_wait(FIRST_STAMP, blank=True)
    found = statuses(active)
    assert list(found) == ["", *NAMES]
    assert {key_values(found[name])["accepted"] for name in NAMES} == {"false"}
    assert {found[name].message for name in NAMES} == {"the image is blank"}


def test_in_mode_inverse_the_camera_hangs_on_the_reference_and_the_bodies_on_the_camera(make):
    bench = make(tf__mode="inverse")
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 3)
    edges = {(t.header.frame_id, t.child_frame_id) for t in bench.transforms()}
    assert edges == {("pelvis_link", "carm_optical"), ("carm_optical", "femur_left"), ("carm_optical", "L5")}
    femur = tree_of(bench).lookup("pelvis_link", "femur_left", FIRST_STAMP, 0.0)
    torch.testing.assert_close(femur.matrix(), (pose_of("pelvis").inverse() @ pose_of("femur_left")).matrix())


def test_in_mode_anchored_all_bodies_hang_on_the_anchor(make):
    bench = make(tf__mode="anchored", frames__anchor="robot_base")
    bench.activate()
    anchor_from_camera = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([100.0, 0.0, 50.0]).double())
    publisher = bench.probe.create_publisher(TFMessage, "/tf", 10)
    bench.spin_until(lambda: publisher.get_subscription_count() >= 2)
    camera = conversions.transform_message(anchor_from_camera, FIRST_STAMP, "robot_base", "carm_optical")
    publisher.publish(TFMessage(transforms=[camera]))
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 4)
    placed = {t.child_frame_id: t for t in bench.transforms() if t.child_frame_id != "carm_optical"}
    assert {t.header.frame_id for t in placed.values()} == {"robot_base"}
    for name in ("pelvis", "femur_left", "L5"):
        expected = (anchor_from_camera @ pose_of(name)).matrix()
        torch.testing.assert_close(conversions.transform_from_message(placed[FRAMES[name]]).matrix(), expected)


def test_another_publisher_of_a_bodys_frame_stops_all_of_them(active):
    publisher = active.probe.create_publisher(TFMessage, "/tf", 10)
    active.spin_until(lambda: publisher.get_subscription_count() >= 2)
    other = conversions.transform_message(pose_of("L5"), FIRST_STAMP, "spine_tracker", "L5")
    publisher.publish(TFMessage(transforms=[other]))
    active.spin_until(lambda: len(active.transforms()) == 1)
    active.spin_for(0.2)
    status = active.send_and_wait(FIRST_STAMP)
    assert "another node publishes 'L5' below 'spine_tracker' on /tf" in status.message
    assert "rename the frame in bodies.path" in status.message
    assert {key_values(found)["accepted"] for found in statuses(active).values()} == {"false"}
    assert len(active.transforms()) == 1


def test_an_image_in_the_frame_of_a_body_is_rejected(make):
    bench = make(frames__camera="L5")
    bench.activate()
    assert "frame_id is 'L5', as is a body's frame" in bench.send_and_wait(FIRST_STAMP).message
    assert not bench.transforms()


def test_markers_show_the_accepted_bodies_in_their_colours_and_delete_the_others(active, tracker):
    markers = []
    active.probe.create_subscription(MarkerArray, "registration_node/markers", markers.append, 1)
    active.send_and_wait(FIRST_STAMP)
    active.spin_until(lambda: len(markers) == 1)
    by_name = {marker.ns: marker for marker in markers[0].markers}
    assert by_name["ct"].header.frame_id == "pelvis_link"
    shown = {name: by_name[f"body {name}"] for name in NAMES}
    assert {name: marker.action for name, marker in shown.items()} == {
        name: Marker.DELETE if name == "femur_right" else Marker.ADD for name in NAMES
    }
    assert {name: marker.header.frame_id for name, marker in shown.items()} == FRAMES
    assert len({(m.color.r, m.color.g, m.color.b) for m in shown.values()}) == len(NAMES)
    tracker.rejected = set()
    active.send_and_wait(FIRST_STAMP + FRAME_NS)
    active.spin_until(lambda: len(markers) == 2)
    assert {marker.action for marker in markers[1].markers} == {Marker.ADD}


def test_overlay_and_drr_show_the_bodies(make):
    bench = make(debug__rate=100.0)
    bench.activate()
    images = {"overlay": [], "drr": []}
    for name, messages in images.items():
        bench.probe.create_subscription(ImageMessage, f"registration_node/{name}", messages.append, 1)
        bench.spin_until(lambda topic=f"/registration_node/{name}": bench.probe.count_publishers(topic) == 1)
    bench.spin_for(0.3)
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: all(images.values()))
    overlay = torch.frombuffer(bytearray(images["overlay"][0].data), dtype=torch.uint8).reshape(64, 64, 3).int()
    assert int((overlay.amax(-1) - overlay.amin(-1)).max()) > 40  # it has colours


def test_processes_see_the_frames_of_all_accepted_bodies(start):
    listener = start(ros_program("tf_listener", "--count", "6"))
    node = start(fake_node("-p", "autostart:=true", tracker="bodies"))
    probe = Probe()
    try:
        node.wait_for_log("active:")
        listener.wait_for_log("connected:")
        probe.wait_until_connected(settle_s=0.5)
        for step in range(2):
            probe.send_and_wait(FIRST_STAMP + step * FRAME_NS)
        lines = [json.loads(line) for line in listener.output()]
    finally:
        probe.close()
    found = {(line["parent"], line["child"], line["stamp_ns"] - FIRST_STAMP) for line in lines}
    assert found == {("carm_optical", FRAMES[n], s) for n in ("pelvis", "femur_left", "L5") for s in (0, FRAME_NS)}
    node.send_signal(signal.SIGINT)
    assert node.wait(10) == 0
