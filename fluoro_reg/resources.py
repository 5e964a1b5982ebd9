"""Paths of the shared files of the package, in a checkout, a pip installation or a colcon installation."""

import os
import sys
from pathlib import Path

from fluoro_reg.errors import InputError


def config_folder() -> Path:
    """Return the `config/` folder."""
    return _find_shared("config/methods").parent


def models_folder() -> Path:
    """Return the `models/` folder, with the weights that are distributed with the package."""
    return _find_shared("models/phantom_regressor.safetensors").parent


def dds_profile() -> Path:
    """Return the Fast DDS profile for large images between processes on one machine."""
    return _find_shared("embedded_ros/fastdds_loopback.xml")


def dds_profile_variable() -> str:
    """Return the environment variable that names a Fast DDS profile; Fast DDS 3 (Kilted and later) renamed it."""
    is_fast_dds_2 = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if is_fast_dds_2 else "FASTDDS_DEFAULT_PROFILES_FILE"


def _find_shared(name: str) -> Path:
    """Find a shared file or folder: next to the package in a checkout, else in `share/fluoro_reg` of the installation."""
    package = Path(__file__).resolve().parent
    roots = [package.parent, *(parent / "share" / "fluoro_reg" for parent in (*package.parents, Path(sys.prefix)))]
    for root in roots:
        if (root / name).exists():
            return root / name
    raise InputError(f"{name} of fluoro_reg was not found; reinstall the package")
