"""The configurations of RViz and Foxglove, compared with what an active node publishes: names, types, QoS, frames and fields.

Neither program is among the ROS wheels, so no picture of them can be made here.
"""

import json
from importlib import import_module

import pytest
import torch
import yaml
from helpers.ros_bench import PROJECT, block_ct
from helpers.ros_probe import FIRST_STAMP
from rclpy.qos import (
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from fluoro_reg.ros.frame_tree import FrameTree
from fluoro_reg.ros.options import FrameOptions

pytestmark = pytest.mark.ros

MARKERS, POSE, IMAGE = (
    "visualization_msgs/msg/MarkerArray",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "sensor_msgs/msg/Image",
)
TYPE_OF_DISPLAY = {"MarkerArray": MARKERS, "PoseWithCovariance": POSE, "Image": IMAGE}


@pytest.fixture
def published(make_bench):
    """An active node whose pictures are subscribed to, after an accepted image; its topics with their types."""
    bench = make_bench(ct=block_ct())
    bench.received["markers"], bench.received["overlay"] = [], []
    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    bench.probe.create_subscription(MarkerArray, "registration_node/markers", bench.received["markers"].append, latched)
    bench.probe.create_subscription(Image, "registration_node/overlay", bench.received["overlay"].append, 1)
    bench.activate()
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: all(bench.received[name] for name in ("markers", "overlay", "pose", "tf")))
    types = dict(bench.node.get_topic_names_and_types())
    return bench, {topic: types[topic] for topic in types if bench.node.count_publishers(topic)}


def rviz():
    return yaml.safe_load((PROJECT / "config" / "registration.rviz").read_text(encoding="utf-8"))["Visualization Manager"]


def requested(topic):
    """The QoS profile that a display of RViz asks for."""
    return QoSProfile(
        depth=topic["Depth"],
        history=QoSHistoryPolicy[topic["History Policy"].upper().replace(" ", "_")],
        reliability=QoSReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        durability=QoSDurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
    )


def test_displays_of_rviz_take_what_the_node_publishes(published):
    bench, types = published
    displays = {display["Class"].split("/")[1]: display for display in rviz()["Displays"]}
    assert set(displays) == {*TYPE_OF_DISPLAY, "Grid", "TF"}
    for kind, expected in TYPE_OF_DISPLAY.items():
        topic = displays[kind]["Topic"]
        assert types[topic["Value"]] == [expected]
        offered = bench.node.get_publishers_info_by_topic(topic["Value"])[0].qos_profile
        compatibility, reason = qos_check_compatible(offered, requested(topic))
        assert compatibility != QoSCompatibility.ERROR, reason
        latched = requested(topic).durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
        assert latched == (offered.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL)


def test_everything_on_display_is_connected_to_the_fixed_frame(published):
    bench, _ = published
    fixed = rviz()["Global Options"]["Fixed Frame"]
    three_d = next(panel for panel in panels() if panel["panelType"] == "ThreeDee")["config"]
    assert {fixed, three_d["fixedFrame"], three_d["followTf"]} == {FrameOptions().patient}
    tree = FrameTree(maximum_gap_s=0.2)
    for transform in bench.transforms():
        tree.add(transform, is_static=False)
    markers = [marker for message in bench.received["markers"] for marker in message.markers]
    messages = [*markers, bench.received["pose"][0], bench.received["overlay"][0]]
    assert {message.header.frame_id for message in messages} == {"carm_optical", "patient"}
    view = rviz()["Views"]["Current"]
    reach_m = view["Distance"] * torch.tan(torch.deg2rad(torch.tensor(45.0 / 2)))  # RViz shows 45 degrees
    for marker in markers:
        fixed_from_frame = tree.lookup(fixed, marker.header.frame_id, FIRST_STAMP, 0.0)
        points = 1000.0 * torch.tensor([[p.x, p.y, p.z] for p in marker.points], dtype=torch.float64)
        assert float(fixed_from_frame.apply(points).norm(dim=-1).max()) / 1000 < reach_m


def panels():
    """The panels of the layout for Foxglove."""
    waiting = [json.loads((PROJECT / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))["content"]]
    found = []
    while waiting:
        content = waiting.pop()
        if content["type"] == "split":
            waiting += [item["content"] for item in content["items"]]
        else:
            found.append(content)
    return found


def fields_along(path, types):
    """The type of every field on a message path such as /topic.status[0].level, the message first."""
    topic, *fields = path.split(".")
    found = [types[topic][0]]
    for field in fields:
        package, _, name = found[-1].split("<")[-1].rstrip(">").replace("/msg/", "/").partition("/")
        known = getattr(import_module(f"{package}.msg"), name).get_fields_and_field_types()
        found.append(known[field.split("[")[0]])
    return found


def test_panels_of_foxglove_take_what_the_node_publishes_and_serves(published):
    bench, types = published
    config = {panel["panelType"]: panel["config"] for panel in panels()}
    assert set(config) == {"ThreeDee", "Image", "Indicator", "ServiceCall", "DiagnosticsSummary", "RawMessages"}
    assert [types[topic] for topic in config["ThreeDee"]["topics"]] == [[MARKERS], [POSE]]
    assert types[config["Image"]["imageMode"]["imageTopic"]] == [IMAGE]
    assert fields_along(config["Indicator"]["path"], types) == ["std_msgs/msg/Bool", "boolean"]
    services = dict(bench.node.get_service_names_and_types())
    assert services[config["ServiceCall"]["serviceName"]] == ["std_srvs/srv/Trigger"]
    assert types[config["DiagnosticsSummary"]["topicToRender"]] == ["diagnostic_msgs/msg/DiagnosticArray"]
    path = fields_along(config["RawMessages"]["topicPath"], types)
    assert path == ["diagnostic_msgs/msg/DiagnosticArray", "sequence<diagnostic_msgs/DiagnosticStatus>"]
