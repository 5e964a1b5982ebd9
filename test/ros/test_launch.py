"""The launch files, run with stand-ins for launch and launch_ros, which the ROS wheels do not include.

The tests check which actions the files return with which arguments, not that launch can run these actions.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from helpers.ros_bench import PROJECT

from fluoro_reg.config import walk_options
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.ros import player
from fluoro_reg.ros.options import NodeOptions

NAMES = {
    "launch": ["LaunchContext", "LaunchDescription", "LaunchDescriptionEntity"],
    "launch.actions": [
        "DeclareLaunchArgument",
        "IncludeLaunchDescription",
        "OpaqueFunction",
        "RegisterEventHandler",
        "SetEnvironmentVariable",
        "Shutdown",
        "TimerAction",
    ],
    "launch.conditions": ["IfCondition"],
    "launch.event_handlers": ["OnProcessExit"],
    "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
    "launch_ros": [],
    "launch_ros.actions": ["LifecycleNode", "Node"],
    "launch_ros.parameter_descriptions": ["ParameterValue"],
}


class LaunchConfiguration:
    """Looks up its value in the context, a dictionary."""

    def __init__(self, name):
        self.name = name

    def perform(self, context):
        return context[self.name]


def recorder(kind):
    """Return a function that records its arguments in an object, in place of a class."""

    def make(*args, **kwargs):
        return SimpleNamespace(kind=kind, args=args, **kwargs)

    return make


@pytest.fixture
def load(monkeypatch):
    """Run a launch file with the stand-ins; return its entities, its declared arguments, and the actions for given ones."""
    for name, members in NAMES.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member, recorder(member))
        monkeypatch.setitem(sys.modules, name, module)
    substitutions = ModuleType("launch.substitutions")
    substitutions.LaunchConfiguration = LaunchConfiguration
    monkeypatch.setitem(sys.modules, "launch.substitutions", substitutions)

    def run(file, /, base=None, **given):
        spec = importlib.util.spec_from_file_location(file, PROJECT / "launch" / f"{file}.launch.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        entities = module.generate_launch_description().args[0]
        declared = {e.args[0]: e for e in entities if e.kind == "DeclareLaunchArgument"}
        function = next(e for e in entities if e.kind == "OpaqueFunction").function
        defaults = {name: declaration.default_value for name, declaration in declared.items()}
        started = function({**(base or {}), **defaults, **given})
        return entities, declared, {e.kind: e for e in started}

    return run


def test_every_argument_is_described(load):
    for name in ("registration", "replay"):
        declared = load(name, base=defaults_of(load), bag="a_bag")[1]
        assert all(argument.description for argument in declared.values())


def defaults_of(load):
    return {name: argument.default_value for name, argument in load("registration")[1].items()}


def test_omitted_arguments_leave_their_parameters_to_the_file(load):
    node = load("registration")[2]["LifecycleNode"]
    file, given = node.parameters
    assert file == str(PROJECT / "config" / "registration.yaml")
    assert given == {"autostart": True, "use_sim_time": False}


def test_given_arguments_become_parameters_of_the_node(load):
    arguments = ("ct", "series", "initial", "method", "device", "intensity", "camera_frame", "patient_frame", "tf_mode")
    arguments += ("second", "second_frame")
    node = load("registration", **dict.fromkeys(arguments, "2"))[2]["LifecycleNode"]
    given = {name: value for name, value in node.parameters[1].items() if name not in ("autostart", "use_sim_time")}
    assert len(given) == len(arguments)
    assert all(value.args == ("2",) and value.value_type is str for value in given.values())
    known = {info.name for cls in (NodeOptions, RegistrationOptions) for info in walk_options(cls)}
    assert set(given) <= known


def test_the_compressed_topic_is_remapped_with_the_raw_one(load):
    node = load("registration", image="/carm/image_raw", camera_info="/carm/camera_info", second_image="/lateral/image")[2][
        "LifecycleNode"
    ]
    assert dict(node.remappings) == {
        "image": "/carm/image_raw",
        "image/compressed": "/carm/image_raw/compressed",
        "camera_info": "/carm/camera_info",
        "second/image": "/lateral/image",
        "second/image/compressed": "/lateral/image/compressed",
        "second/camera_info": "second/camera_info",
    }


def test_rviz_shows_the_topics_of_the_named_node_in_the_frame_of_the_patient(load):
    rviz = load("registration", namespace="room/1", name="reg", patient_frame="lps")[2]["Node"]
    config, frame = rviz.arguments[1], rviz.arguments[3]
    assert rviz.arguments[::2] == ["-d", "-f"]
    assert frame == "lps"
    displays = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    shown = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert dict(rviz.remappings) == {topic: topic.replace("/registration_node", "/room/1/reg") for topic in shown}


def test_the_player_is_silent_and_the_node_starts_again_only_if_asked(load):
    base = defaults_of(load)
    output = {flag: load("replay", base=base, bag="b", print_results=flag)[2]["Node"].output for flag in ("false", "true")}
    assert output == {
        "false": {"stdout": "log", "stderr": "screen"},
        "true": {"stdout": "screen", "stderr": "screen"},
    }
    assert not load("registration")[2]["LifecycleNode"].respawn
    assert load("registration", respawn="true")[2]["LifecycleNode"].respawn


def test_ros2_launch_finds_the_launch_files_in_the_share_of_the_environment():
    """ros2launch walks the share without following links to folders."""
    share = Path(sys.prefix) / "share" / "fluoro_reg"
    if not share.exists():
        pytest.skip("not an environment of scripts/bootstrap.sh")
    found = {name for _, _, names in os.walk(share) for name in names}
    assert {"registration.launch.py", "replay.launch.py", "registration.rviz", "foxglove_layout.json"} <= found


def test_a_dds_profile_is_set_for_the_node(load):
    assert "SetEnvironmentVariable" not in load("registration")[2]
    variable = load("registration", dds_profile="profile.xml")[2]["SetEnvironmentVariable"]
    assert variable.args[1] == "profile.xml"


def test_the_replay_waits_for_the_results_of_the_named_node_and_shuts_down(load):
    base = defaults_of(load)
    _, declared, started = load("replay", base=base, bag="a_bag", name="reg", namespace="room/1")
    assert declared["bag"].default_value is None  # required
    assert (PROJECT / "embedded_ros" / "fastdds_loopback.xml").samefile(declared["dds_profile"].default_value)
    options = player.parse_arguments(started["Node"].arguments)
    assert options.bag.name == "a_bag"
    assert options.topics == ["/carm/image_raw", "/carm/camera_info"]
    assert options.answers == "/room/1/reg/result"
    handler = started["RegisterEventHandler"].args[0]
    assert handler.target_action is started["Node"]
    assert handler.on_exit[0].actions[0].kind == "Shutdown"


def test_a_replay_in_real_time_does_not_wait_for_results(load):
    _, _, started = load("replay", base=defaults_of(load), bag="a_bag", every_frame="false", image_transport="compressed")
    options = player.parse_arguments(started["Node"].arguments)
    assert options.answers is None
    assert options.topics == ["/carm/image_raw/compressed", "/carm/camera_info"]


def test_a_replay_plays_the_images_of_a_second_camera(load):
    started = load("replay", base=defaults_of(load), bag="a_bag", second_frame="lateral", second_image="/lateral/image")[2]
    options = player.parse_arguments(started["Node"].arguments)
    assert options.topics == ["/carm/image_raw", "/carm/camera_info", "/lateral/image", "second/camera_info"]
