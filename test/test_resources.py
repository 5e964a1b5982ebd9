"""Shared files and settings: found without heavy imports."""

import subprocess
import sys

import pytest

from fluoro_reg.resources import config_folder, dds_profile, dds_profile_variable, models_folder


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
        (None, "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_dds_profile_variable_follows_the_ros_distribution(
    monkeypatch: pytest.MonkeyPatch, distribution: str | None, variable: str
) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    if distribution is not None:
        monkeypatch.setenv("ROS_DISTRO", distribution)
    assert dds_profile_variable() == variable


def test_shared_files_are_found() -> None:
    assert (config_folder() / "registration.yaml").is_file()
    assert list(models_folder().glob("*.safetensors"))
    assert dds_profile().is_file()


def test_launch_files_can_import_resources_without_loading_torch() -> None:
    code = "import sys, fluoro_reg.resources; sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
