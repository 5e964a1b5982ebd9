"""`ros2 launch fluoro_reg registration.launch.py ct:=... initial:=...`: the node, configured and active."""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from fluoro_reg.resources import dds_profile_variable
from launch import LaunchDescription

SHARE = Path(__file__).absolute().parents[1]

# Arguments that, when given, win over the same parameter in the file.
PARAMETER_OF = {
    "ct": "ct.path",
    "series": "ct.series",
    "initial": "initial.path",
    "model": "model",
    "method": "method",
    "device": "device",
    "intensity": "intensity",
    "camera_frame": "frames.camera",
    "patient_frame": "frames.patient",
    "image_transport": "image_transport",
}

ARGUMENTS = [
    ("params_file", str(SHARE / "config" / "registration.yaml"), "parameters of the node; the default file explains each"),
    ("ct", "", "the CT to register to: a folder or file of DICOM, NIfTI, NRRD or MHA (parameter ct.path)"),
    ("series", "", "which DICOM series, when the folder holds several (parameter ct.series)"),
    ("initial", "", "pose.json to start from; without one the node waits for `initialpose` (parameter initial.path)"),
    ("model", "", "weights that `fluoro-reg train regressor` made for this CT; they find the start (parameter model)"),
    ("method", "", "named method; `fluoro-reg methods` lists them (parameter method)"),
    ("device", "", "cpu, cuda or auto (parameter device)"),
    ("intensity", "", "what the pixels are: auto, transmitted or attenuation (parameter intensity)"),
    ("camera_frame", "", "parent frame of the transform; empty: the image's (parameter frames.camera)"),
    ("patient_frame", "", "child frame of the transform (parameter frames.patient)"),
    ("image_transport", "", "raw or compressed (parameter image_transport)"),
    ("image", "image", "topic of the images; `<topic>/compressed` with image_transport:=compressed"),
    ("camera_info", "camera_info", "topic of the CameraInfo that belongs to the images"),
    ("namespace", "", "namespace of the node"),
    ("name", "registration_node", "name of the node"),
    ("autostart", "true", "configure and activate at once; false: leave it to a lifecycle manager"),
    ("use_sim_time", "false", "take time from /clock, as for a bag that is played with --clock"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    (
        "dds_profile",
        "",
        "Fast DDS profile for large images, such as the package's share/fluoro_reg/embedded_ros/fastdds_loopback.xml",
    ),
    ("rviz", "false", "start RViz as well"),
]


def generate_launch_description() -> LaunchDescription:
    """The arguments, then the nodes that follow from them."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])


def nodes(context):
    """What is started; arguments that are empty leave the parameter to the file."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    # A plain string would be read as YAML, and the series "2" would become a number.
    given = {p: ParameterValue(value(name), value_type=str) for name, p in PARAMETER_OF.items() if value(name)}
    given["autostart"] = is_true(value("autostart"))
    given["use_sim_time"] = is_true(value("use_sim_time"))
    image = value("image")
    remappings = [("image", image), ("image/compressed", f"{image}/compressed"), ("camera_info", value("camera_info"))]
    registration = LifecycleNode(
        package="fluoro_reg",
        executable="registration_node",
        name=value("name"),
        namespace=value("namespace"),
        output="screen",
        parameters=[value("params_file"), given],
        remappings=remappings,
        arguments=["--ros-args", "--log-level", value("log_level")],
    )
    rviz = Node(package="rviz2", executable="rviz2", name="rviz2", condition=IfCondition(LaunchConfiguration("rviz")))
    profile = value("dds_profile")
    settings = [SetEnvironmentVariable(dds_profile_variable(), profile)] if profile else []
    return [*settings, registration, rviz]


def is_true(text):
    """As launch reads a condition."""
    return text.strip().lower() in ("true", "1")
