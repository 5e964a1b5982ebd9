"""Play a recording through the registration node, then shut down.

Usage: `ros2 launch fluoro_reg replay.launch.py bag:=... ct:=... initial:=...`
"""

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

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

HERE = Path(__file__).absolute().parent
LAST_FRAME_S = 3.0  # the node may still be processing the last frame when the bag ends

ARGUMENTS: list[tuple[str, str | None, str]] = [
    ("bag", None, "the rosbag2 folder (sqlite3 or mcap)"),
    ("rate", "1.0", "playback speed relative to the recording"),
    ("wait", "120.0", "timeout in s for the node to subscribe; loading a CT takes a while"),
    (
        "every_frame",
        "true",
        "publish an image only after the result of the previous one; if false, play in real time like a live camera",
    ),
    ("print_results", "false", "with every_frame:=true, also print the result of every image as a JSON line"),
    ("image", "/carm/image_raw", "topic of the images in the bag"),
    ("camera_info", "/carm/camera_info", "topic of the CameraInfo in the bag"),
    (
        "dds_profile",
        str(HERE.parent / "embedded_ros" / "fastdds_loopback.xml"),
        "Fast DDS profile for large images; '' disables it",
    ),
]


def generate_launch_description() -> LaunchDescription:
    """Return registration.launch.py with all its arguments, and a player that waits for the node."""
    declared = []
    for name, default, text in ARGUMENTS:
        declared.append(DeclareLaunchArgument(name, default_value=default, description=text))
    registration = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "registration.launch.py")))
    return LaunchDescription([*declared, registration, OpaqueFunction(function=make_player)])


def make_player(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the player and a handler that shuts the launch down after it exits."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    compressed = "/compressed" if value("image_transport") == "compressed" else ""
    topics = [value("image") + compressed, value("camera_info")]
    if value("second") or value("second_frame"):
        topics += [value("second_image") + compressed, value("second_camera_info")]
    arguments = [value("bag"), "--rate", value("rate"), "--wait", value("wait"), "--topics", *topics]
    if is_true(value("every_frame")):
        arguments += ["--answers", "/".join(["", *filter(None, value("namespace").split("/")), value("name"), "result"])]
    output = {"stdout": "screen" if is_true(value("print_results")) else "log", "stderr": "screen"}
    player = Node(package="fluoro_reg", executable="bag_player", name="bag_player", output=output, arguments=arguments)
    shutdown = TimerAction(period=LAST_FRAME_S, actions=[Shutdown(reason="the bag has been played")])
    return [player, RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[shutdown]))]


def is_true(text: str) -> bool:
    """Return whether launch reads the text as a true condition."""
    return text.strip().lower() in ("true", "1")
