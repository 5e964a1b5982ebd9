"""Player, node and listener as processes of their own: what a user starts, and how it ends."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rclpy
import torch
from helpers.ros_bench import FIRST_STAMP, FRAME_NS, KNOWN_POSE, camera_info, image
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.errors import InputError
from fluoro_reg.ros.player import BagPlayer, opened

pytestmark = pytest.mark.ros

TESTS = Path(__file__).resolve().parents[1]
FRAMES = 8
BLANK = (2, 5)
FAKE_NODE = [sys.executable, str(TESTS / "helpers" / "fake_registration_node.py")]
TOPICS = ["-r", "image:=/carm/image_raw", "-r", "camera_info:=/carm/camera_info"]


def ros_program(name, *arguments):
    return [sys.executable, "-m", f"fluoro_reg.ros.{name}", *arguments]


@pytest.fixture
def start():
    """Starts processes and ends those that are left."""
    processes = []

    def run(command):
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.send_signal(signal.SIGINT)  # a killed process leaves its shared memory behind, locked
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def says(process, text):
    """Waits until its log holds the text."""
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the process ended and never said '{text}'")


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
def test_a_bag_goes_through_the_node_to_the_listener(start, tmp_path, plugin):
    write_bag(tmp_path / "bag", plugin)
    shown = FRAMES - len(BLANK)
    listener = start(ros_program("tf_listener", "--count", str(shown), "--child", "patient"))
    node = start([*FAKE_NODE, "--ros-args", "-p", "autostart:=true", *TOPICS])
    says(node, "active:")
    says(listener, "connected:")
    player = start(ros_program("player", str(tmp_path / "bag"), "--await", "/tf", "--answers", "/registration_node/result"))
    answers = [json.loads(line) for line in player.communicate(timeout=60)[0].splitlines()]
    assert [answer["stamp_ns"] for answer in answers] == [FIRST_STAMP + n * FRAME_NS for n in range(FRAMES)]
    assert player.returncode == 0
    lines = [json.loads(line) for line in listener.communicate(timeout=10)[0].splitlines()]
    assert [line["stamp_ns"] for line in lines] == [FIRST_STAMP + n * FRAME_NS for n in range(FRAMES) if n not in BLANK]
    assert {(line["parent"], line["child"], line["unit"]) for line in lines} == {("carm_optical", "patient", "mm")}
    for line in lines:
        pose = torch.tensor(line["parent_from_child"], dtype=torch.float64)
        torch.testing.assert_close(pose, KNOWN_POSE.matrix())
    node.send_signal(signal.SIGINT)
    assert node.wait(10) == 0


@pytest.mark.parametrize(
    ("number", "autostart"), [(signal.SIGINT, "true"), (signal.SIGTERM, "true"), (signal.SIGTERM, "false")]
)
def test_a_signal_ends_the_node_in_order(start, number, autostart):
    probe = rclpy.create_node("probe")
    node = start([*FAKE_NODE, "--ros-args", "-p", f"autostart:={autostart}", "-r", "__node:=ends_in_order"])
    end = time.monotonic() + 30
    while not (probe.count_subscribers("image") if autostart == "true" else "ends_in_order" in probe.get_node_names()):
        assert time.monotonic() < end
        time.sleep(0.05)
    probe.destroy_node()
    node.send_signal(number)
    _, errors = node.communicate(timeout=10)
    assert node.returncode == 0, errors
    assert "Traceback" not in errors


def test_an_autostart_with_unusable_input_ends_with_a_sentence(start):
    node = start(ros_program("node", "--ros-args", "-p", "autostart:=true", "-p", "ct.path:=/nowhere/ct"))
    _, errors = node.communicate(timeout=60)
    assert node.returncode == 2
    assert "cannot configure: there is no CT at 'ct'; check the path" in errors
    assert "Traceback" not in errors


def test_a_player_without_a_bag_says_so(start, tmp_path):
    player = start(ros_program("player", str(tmp_path / "nothing")))
    _, errors = player.communicate(timeout=60)
    assert player.returncode == 2
    assert "nothing is no rosbag2" in errors
    assert "Traceback" not in errors


@pytest.fixture
def make_player(tmp_path):
    """A player of a small bag, in this process."""
    write_bag(tmp_path / "bag", StoragePlugin.SQLITE3)
    players = []

    def make(topics):
        players.append(BagPlayer(reader, topics))
        return players[-1]

    with opened(tmp_path / "bag") as reader:
        yield make
    for player in players:
        player.destroy_node()


def test_a_player_whom_nobody_hears_says_so(make_player):
    with pytest.raises(InputError, match=r"nobody listens to /carm/image_raw, /tf after 0.2 s"):
        make_player(["/carm/image_raw"]).wait_for_listeners(0.2, also=["/tf"])


def test_a_topic_that_the_bag_lacks_is_named(make_player):
    with pytest.raises(InputError, match="the bag has no topic /carm/images; it has /carm/camera_info, /carm/image_raw"):
        make_player(["/carm/images"])
