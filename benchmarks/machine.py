"""The machine that a benchmark ran on, and the versions of what it measured."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def machine(device: str = "cpu") -> dict[str, str | int]:
    """Return the processor, the cores available to this process and the system; on `cuda` also the GPU."""
    description: dict[str, str | int] = {"cpu": _cpu_model(), "cores": usable_cores(), "system": platform.platform(terse=True)}
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        description |= {"gpu": gpu.name, "multiprocessors": gpu.multi_processor_count, "cuda": str(torch.version.cuda)}
    return description


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    installed = {"python": platform.python_version()}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
