"""`ros2 launch fluoro_reg replay.launch.py bag:=... ct:=... initial:=...`: a recording through the node, then the end."""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

HERE = Path(__file__).absolute().parent
LAST_FRAME_S = 3.0  # the node may still be at the last frame when the bag has ended

ARGUMENTS = [
    ("bag", None, "the rosbag2 folder (sqlite3 or mcap)"),
    ("rate", "1.0", "speed relative to the recording"),
    ("wait", "120.0", "s until the node must have subscribed; loading a CT takes a while"),
    ("every_frame", "true", "play an image only when the one before has its answer; false: as a live camera would"),
    ("image", "/carm/image_raw", "topic of the images in the bag"),
    ("camera_info", "/carm/camera_info", "topic of the CameraInfo in the bag"),
    (
        "dds_profile",
        str(HERE.parent / "embedded_ros" / "fastdds_loopback.xml"),
        "Fast DDS profile for large images; '' for none",
    ),
]


def generate_launch_description() -> LaunchDescription:
    """registration.launch.py with all of its arguments, and a player that waits for the node."""
    declared = []
    for name, default, text in ARGUMENTS:
        declared.append(DeclareLaunchArgument(name, default_value=default, description=text))
    registration = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "registration.launch.py")))
    return LaunchDescription([*declared, registration, OpaqueFunction(function=player)])


def player(context):
    """The player, and the end when it has ended."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    compressed = "/compressed" if value("image_transport") == "compressed" else ""
    topics = [value("image") + compressed, value("camera_info")]
    arguments = [value("bag"), "--rate", value("rate"), "--wait", value("wait"), "--topics", *topics]
    if value("every_frame").strip().lower() in ("true", "1"):
        arguments += ["--answers", "/".join(["", *filter(None, value("namespace").split("/")), value("name"), "result"])]
    play = Node(package="fluoro_reg", executable="bag_player", name="bag_player", output="screen", arguments=arguments)
    end = TimerAction(period=LAST_FRAME_S, actions=[Shutdown(reason="the bag has been played")])
    return [play, RegisterEventHandler(OnProcessExit(target_action=play, on_exit=[end]))]
