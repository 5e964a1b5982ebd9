"""Player, node and listener as separate processes, as a user starts and stops them."""

import json
import signal
import time

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import KNOWN_POSE
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, Probe, camera_info, image
from helpers.ros_processes import fake_node, ros_program
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.errors import InputError
from fluoro_reg.ros import conversions
from fluoro_reg.ros.player import BagPlayer, open_bag

pytestmark = pytest.mark.ros

FRAMES = 8
BLANK = (2, 5)
TOPICS = ["-r", "image:=/carm/image_raw", "-r", "camera_info:=/carm/camera_info"]


def write_bag(folder, plugin):
    store = get_typestore(Stores.ROS2_KILTED)
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        image_topic = writer.add_connection("/carm/image_raw", "sensor_msgs/msg/Image", typestore=store)
        info_topic = writer.add_connection("/carm/camera_info", "sensor_msgs/msg/CameraInfo", typestore=store)
        for n in range(FRAMES):
            stamp = FIRST_STAMP + n * FRAME_NS
            writer.write(info_topic, stamp, serialize_message(camera_info(stamp)))
            writer.write(image_topic, stamp, serialize_message(image(stamp, blank=n in BLANK)))


@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_is_registered_and_its_poses_reach_the_listener(start, tmp_path, plugin):
    write_bag(tmp_path / "bag", plugin)
    accepted = FRAMES - len(BLANK)
    listener = start(ros_program("tf_listener", "--count", str(accepted), "--child", "patient"))
    node = start(fake_node("-p", "autostart:=true", *TOPICS))
    node.wait_for_log("active:")
    listener.wait_for_log("connected:")
    player = start(ros_program("player", str(tmp_path / "bag"), "--await", "/tf", "--answers", "/registration_node/result"))
    results = [json.loads(line) for line in player.output()]
    assert [result["stamp_ns"] for result in results] == [FIRST_STAMP + n * FRAME_NS for n in range(FRAMES)]
    assert player.wait() == 0
    lines = [json.loads(line) for line in listener.output()]
    assert [line["stamp_ns"] for line in lines] == [FIRST_STAMP + n * FRAME_NS for n in range(FRAMES) if n not in BLANK]
    assert {(line["parent"], line["child"], line["unit"]) for line in lines} == {("carm_optical", "patient", "mm")}
    for line in lines:
        pose = torch.tensor(line["parent_from_child"], dtype=torch.float64)
        torch.testing.assert_close(pose, KNOWN_POSE.matrix())
    node.send_signal(signal.SIGINT)
    assert node.wait(10) == 0


def test_two_nodes_of_a_biplane_c_arm_notice_that_they_publish_the_same_frame(start):
    names = ("frontal", "lateral")
    topics = ["-r", "image:=/image", "-r", "camera_info:=/camera_info", "-p", "autostart:=true"]
    nodes = [start(fake_node("-r", f"__ns:=/{name}", "-p", f"frames.camera:={name}", *topics)) for name in names]
    probe = Probe(name="frontal/registration_node")
    try:
        for node in nodes:
            node.wait_for_log("active:")
        probe.spin_until(lambda: probe.image_publisher.get_subscription_count() == 2)
        probe.spin_until(lambda: probe.camera_info_publisher.get_subscription_count() == 2)

        def registration(name):
            wanted = f"{name}/registration_node: registration"
            found = [s for message in probe.received["diagnostics"] for s in message.status if s.name == wanted]
            return found[-1] if found else None

        def silent_nodes():
            known = {name: registration(name) for name in names}
            return {name for name, status in known.items() if status and status.level == DiagnosticStatus.ERROR}

        step = 0
        while not silent_nodes() and step < 30:  # the nodes notice each other in the first frames that both receive
            probe.send(FIRST_STAMP + step * FRAME_NS)
            probe.spin_for(0.3)
            step += 1
        assert silent_nodes()
        probe.spin_for(1.5)
        late = FIRST_STAMP + step * FRAME_NS
        probe.send(late)
        probe.spin_for(1.5)
        last = [t.header.frame_id for t in probe.transforms() if conversions.stamp_ns(t.header.stamp) == late]
        assert len(last) <= 1  # the first to notice stops, and the other may then be alone
        assert silent_nodes() == set(names) - set(last)
        other_of = dict(zip(names, reversed(names), strict=True))
        for name in silent_nodes():
            assert f"another node publishes 'patient' below '{other_of[name]}' on /tf" in registration(name).message
    finally:
        probe.close()


def test_images_of_33_mb_arrive_with_the_dds_profile(start):
    node = start(fake_node("-p", "autostart:=true"))
    probe = Probe()
    try:
        probe.wait_until_connected(settle_s=0.5)
        pixels = np.tile(np.arange(4096, dtype=np.uint16), (4096, 1))
        message = image(FIRST_STAMP)
        message.height = message.width = 4096
        message.step, message.data = 2 * 4096, conversions.byte_array(pixels)
        info = camera_info(FIRST_STAMP)
        info.height = info.width = 4096
        for step in range(3):
            message.header.stamp = info.header.stamp = conversions.time_message(FIRST_STAMP + step * FRAME_NS)
            probe.camera_info_publisher.publish(info)
            probe.image_publisher.publish(message)
            probe.spin_until(lambda count=step + 1: len(probe.results()) == count)
        assert [values["accepted"] for values in probe.results()] == ["true"] * 3
        assert node.process.poll() is None
    finally:
        probe.close()


@pytest.mark.parametrize(
    ("number", "autostart"), [(signal.SIGINT, "true"), (signal.SIGTERM, "true"), (signal.SIGTERM, "false")]
)
def test_a_signal_shuts_the_node_down_cleanly(start, number, autostart):
    probe = rclpy.create_node("probe")
    node = start(fake_node("-p", f"autostart:={autostart}", "-r", "__node:=shuts_down"))
    end = time.monotonic() + 30
    while not (probe.count_subscribers("image") if autostart == "true" else "shuts_down" in probe.get_node_names()):
        assert time.monotonic() < end
        time.sleep(0.05)
    probe.destroy_node()
    node.send_signal(number)
    assert node.wait() == 0, node.log
    assert "Traceback" not in node.log


def test_an_autostart_with_unusable_input_exits_with_a_sentence(start):
    node = start(ros_program("node", "--ros-args", "-p", "autostart:=true", "-p", "ct.path:=/nowhere/ct"))
    assert node.wait(60) == 2
    assert "cannot configure: there is no CT at 'ct'; check the path" in node.log
    assert "Traceback" not in node.log


def test_the_player_reports_a_missing_bag(start, tmp_path):
    player = start(ros_program("player", str(tmp_path / "nothing")))
    assert player.wait(60) == 2
    assert "nothing is not a readable rosbag2" in player.log
    assert "Traceback" not in player.log


@pytest.fixture
def make_player(tmp_path):
    """Make players of a small bag, in this process."""
    write_bag(tmp_path / "bag", StoragePlugin.SQLITE3)
    players = []

    def make(topics):
        players.append(BagPlayer(reader, topics))
        return players[-1]

    with open_bag(tmp_path / "bag") as reader:
        yield make
    for player in players:
        player.destroy_node()


def test_the_player_reports_topics_without_subscribers(make_player):
    with pytest.raises(InputError, match=r"nothing is connected to /carm/image_raw, /tf after 0.2 s"):
        make_player(["/carm/image_raw"]).wait_for_subscribers(0.2, other_topics=["/tf"])


def test_the_player_reports_a_topic_that_is_not_in_the_bag(make_player):
    with pytest.raises(InputError, match="the bag has no topic /carm/images; it has /carm/camera_info, /carm/image_raw"):
        make_player(["/carm/images"])
