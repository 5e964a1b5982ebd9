"""Software versions and type of machine, for reports. Nothing here identifies the machine or its owner."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fluoro_reg

CORE_PACKAGES = ("torch", "numpy", "numba", "scipy")


def versions(packages: Sequence[str] = CORE_PACKAGES) -> dict[str, str]:
    """Return the versions of this package, Python and `packages`, and the type of machine.

    ROS packages that are not installed as Python packages have no metadata; they are reported as those of ROS_DISTRO.
    """
    found = {"fluoro_reg": fluoro_reg.__version__, "Python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = f"of ROS 2 {os.environ.get('ROS_DISTRO', '')}".strip()
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} logical cores"}


def processor() -> str:
    """Return the model of the processor, on which times depend."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
