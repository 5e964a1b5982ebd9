"""Start the registration node, configured and active.

Usage: `ros2 launch fluoro_reg registration.launch.py ct:=... initial:=...`
"""

from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from fluoro_reg.resources import dds_profile_variable
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

SHARE = Path(__file__).absolute().parents[1]
RESPAWN_DELAY_S = 1.0
RVIZ_TOPICS = ("overlay", "markers", "pose")

# Launch arguments that override a parameter of the file when they are not empty.
PARAMETER_OF = {
    "ct": "ct.path",
    "series": "ct.series",
    "initial": "initial.path",
    "view": "initial.view",
    "model": "model",
    "method": "method",
    "device": "device",
    "intensity": "intensity",
    "camera_frame": "frames.camera",
    "patient_frame": "frames.patient",
    "tf_mode": "tf.mode",
    "anchor_frame": "frames.anchor",
    "second": "second.path",
    "second_frame": "second.frame",
    "image_transport": "image_transport",
}

ARGUMENTS = [
    (
        "params_file",
        str(SHARE / "config" / "registration.yaml"),
        "parameters file of the node; the default file documents every parameter",
    ),
    ("ct", "", "the CT to register to: a folder or file of DICOM, NIfTI, NRRD or MHA (parameter ct.path)"),
    ("series", "", "the DICOM series to use if the folder holds several (parameter ct.series)"),
    ("initial", "", "pose.json with the initial pose; if empty, the views of `view` are searched (parameter initial.path)"),
    ("view", "", "views to search without a pose: ap, pa, ap-pa, lateral-left, lateral-right, around, any (initial.view)"),
    ("model", "", "weights of a regressor trained on this CT, which predicts the initial pose (parameter model)"),
    ("method", "", "registration method; `fluoro-reg methods` lists them (parameter method)"),
    ("device", "", "cpu, cuda or auto (parameter device)"),
    ("intensity", "", "meaning of the pixel values: auto, transmitted or attenuation (parameter intensity)"),
    ("camera_frame", "", "the camera's frame; if empty, the frame_id of the image (parameter frames.camera)"),
    ("patient_frame", "", "the patient's frame (parameter frames.patient)"),
    ("tf_mode", "", "the edge on /tf: direct, inverse or anchored (parameter tf.mode)"),
    ("anchor_frame", "", "with tf_mode:=anchored, the parent of the patient (parameter frames.anchor)"),
    ("second", "", "a second camera: view.json with its fixed pose relative to the first (parameter second.path)"),
    ("second_frame", "", "a second camera: its frame on tf2, which may move (parameter second.frame)"),
    ("image_transport", "", "raw or compressed (parameter image_transport)"),
    ("image", "image", "topic of the images; `<topic>/compressed` with image_transport:=compressed"),
    ("camera_info", "camera_info", "topic of the CameraInfo messages for the images"),
    ("second_image", "second/image", "topic of the images of a second camera"),
    ("second_camera_info", "second/camera_info", "topic of the CameraInfo messages for them"),
    ("namespace", "", "namespace of the node"),
    ("name", "registration_node", "name of the node"),
    ("autostart", "true", "configure and activate on start; if false, a lifecycle manager does it"),
    ("use_sim_time", "false", "take the time from /clock, for example from a bag played with --clock"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    (
        "dds_profile",
        "",
        "Fast DDS profile for large images, such as embedded_ros/fastdds_loopback.xml in the share folder of the package",
    ),
    ("respawn", "false", "start the node again when it ends, for example because a registration hangs"),
    ("rviz", "false", "also start RViz, with config/registration.rviz"),
]


def generate_launch_description() -> LaunchDescription:
    """Return the launch arguments and the nodes that depend on them."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=make_nodes)])


def make_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the actions to run. An empty argument leaves its parameter to the parameters file."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    # Launch parses a plain string as YAML, which would turn the series "2" into a number.
    overrides: dict[str, Any] = {
        parameter: ParameterValue(value(name), value_type=str) for name, parameter in PARAMETER_OF.items() if value(name)
    }
    overrides["autostart"] = is_true(value("autostart"))
    overrides["use_sim_time"] = is_true(value("use_sim_time"))
    remappings = [
        (camera + topic, value(argument) + ending)
        for camera, prefix in (("", ""), ("second/", "second_"))
        for topic, argument, ending in (
            ("image", f"{prefix}image", ""),
            ("image/compressed", f"{prefix}image", "/compressed"),
            ("camera_info", f"{prefix}camera_info", ""),
        )
    ]
    registration = LifecycleNode(
        package="fluoro_reg",
        executable="registration_node",
        name=value("name"),
        namespace=value("namespace"),
        output="screen",
        parameters=[value("params_file"), overrides],
        remappings=remappings,
        arguments=["--ros-args", "--log-level", value("log_level")],
        respawn=is_true(value("respawn")),
        respawn_delay=RESPAWN_DELAY_S,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["-d", str(SHARE / "config" / "registration.rviz"), "-f", value("patient_frame") or "patient"],
        remappings=[(f"/registration_node/{topic}", f"{full_name(context)}/{topic}") for topic in RVIZ_TOPICS],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    profile = value("dds_profile")
    environment = [SetEnvironmentVariable(dds_profile_variable(), profile)] if profile else []
    return [*environment, registration, rviz]


def full_name(context: LaunchContext) -> str:
    """Return the name of the node with its namespace."""
    parts = (LaunchConfiguration(name).perform(context).strip("/") for name in ("namespace", "name"))
    return "/" + "/".join(part for part in parts if part)


def is_true(text: str) -> bool:
    """Return whether launch reads the text as a true condition."""
    return text.strip().lower() in ("true", "1")
