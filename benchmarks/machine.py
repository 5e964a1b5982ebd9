"""On what a benchmark ran: the machine, and the versions of what was measured. Shared by the benchmarks of this folder."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def machine(device: str = "cpu") -> dict[str, str | int]:
    """Processor, cores that this process may use, system; on `cuda` the card too."""
    described: dict[str, str | int] = {"cpu": _cpu_model(), "cores": usable_cores(), "system": platform.platform(terse=True)}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        described |= {"gpu": card.name, "multiprocessors": card.multi_processor_count, "cuda": str(torch.version.cuda)}
    return described


def versions(*packages: str) -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
