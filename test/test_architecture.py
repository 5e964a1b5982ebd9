"""The layers of the package: a package imports only from lower layers, and only `ros` imports ROS."""

import ast
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import fluoro_reg
from fluoro_reg.resources import config_folder

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "fluoro_reg"
LAYERS = [
    {"errors", "progress", "waiting"},
    {"arrays", "compiled", "config", "dicom_bits", "resources"},
    {"geometry", "optimisers"},
    {"ct", "xray"},
    {"carm"},
    {"rendering", "similarity", "formats"},
    {"networks", "simulation"},
    {"regressor"},
    {"learned"},
    {"registration"},
    {"evaluation", "training"},
    {"demo", "doctor"},
    {"ros", "cli"},
]
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}
ROS = ("rclpy", "tf2_ros", "cv_bridge", "launch", "launch_ros", "builtin_interfaces", "ament_index_python")
HEAVY = ("rclpy", "SimpleITK", "nibabel", "cv2", "matplotlib", "rosbags")
MODULES = sorted(PACKAGE.rglob("*.py"))


def package_of(file: Path) -> str:
    """The package or module below fluoro_reg that a file belongs to."""
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


WITHOUT_ROS = [file for file in MODULES if package_of(file) != "ros"]


def imported(file: Path) -> set[str]:
    """Full names of what a file imports, inside functions too, and by importlib with a plain name."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            names |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return names


def knows_ros(name: str) -> bool:
    """Whether a module belongs to ROS: its libraries, and every package of messages."""
    top = name.split(".")[0]
    return top in ROS or top.endswith(("_msgs", "_srvs"))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_package_and_lower_layers(file):
    own = package_of(file)
    if own == "__init__":
        return  # it offers the public names of all packages, lazily: test_public_api.py
    assert own in LAYER_OF, f"'{own}' has no layer: give it one here and in docs/development/architecture.md"
    for name in imported(file):
        parts = name.split(".")
        if parts[0] != "fluoro_reg" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        assert parts[1] == own or LAYER_OF[parts[1]] < LAYER_OF[own], f"{own} must not import {name}"


@pytest.mark.parametrize("file", WITHOUT_ROS, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_the_ros_package_imports_ros(file):
    assert not [name for name in imported(file) if knows_ros(name)]


def test_nothing_at_run_time_imports_training():
    users = [file for file in MODULES if package_of(file) not in ("training", "cli")]
    assert not [file for file in users if any(name.startswith("fluoro_reg.training") for name in imported(file))]


@pytest.mark.parametrize("command", ["register", "replay", "render", "train"])
def test_a_command_that_does_not_evaluate_imports_no_evaluation(command):
    assert not [name for name in imported(PACKAGE / "cli" / f"{command}.py") if name.startswith("fluoro_reg.evaluation")]


def test_the_core_comes_up_without_ros_extras_and_cuda():
    packages = ("geometry", "optimisers", "ct.reader", "xray.reader", "rendering", "similarity", "registration")
    code = f"""
import importlib, sys
for name in {HEAVY}:
    sys.modules[name] = None  # importing it raises ImportError
for name in {packages}:
    importlib.import_module(f"fluoro_reg.{{name}}")
import torch
assert not torch.cuda.is_initialized()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_installation_brings_launch_files_and_configuration():
    calls = [node for node in ast.walk(ast.parse((PROJECT / "setup.py").read_text())) if isinstance(node, ast.keyword)]
    listed = ast.unparse(next(call.value for call in calls if call.arg == "data_files"))
    parts = ("resource/", "package.xml", "launch/*.py", "config/*", "config/methods/*.yaml", "config/views/*.yaml")
    for part in (*parts, "fastdds_loopback.xml"):
        assert part in listed
    assert {path.name for path in (PROJECT / "launch").glob("*.py")} == {"registration.launch.py", "replay.launch.py"}
    assert (config_folder() / "registration.yaml").is_file()


def test_package_xml_and_setup_agree_on_the_version():
    root = ElementTree.parse(PROJECT / "package.xml").getroot()
    assert root.get("format") == "3"
    assert root.findtext("version") == fluoro_reg.__version__
    assert root.findtext("name") == "fluoro_reg"
    assert root.findtext("export/build_type") == "ament_python"
