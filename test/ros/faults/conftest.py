"""Faults injected into the node in another process. They take minutes and run on request: `pytest -m faults test/ros/faults`.

With FLUORO_REG_FAULT_TABLE=FILE, a table is written: the fault, what reached /tf, what the node said, and what followed.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.faulty_world import World
from helpers.ros_probe import Probe
from helpers.ros_processes import RosProcess, fake_node

HEADER = [
    "# Faults",
    "",
    "Injected into `registration_node` in another process, with a fake tracker that accepts every image with contrast, by",
    "`FLUORO_REG_FAULT_TABLE=benchmarks/results/faults.md FLUORO_REG_SOAK_FRAMES=50000 pytest -m faults test/ros/faults`.",
    "",
    "| fault | on /tf | the node says | then |",
    "|---|---|---|---|",
]


@pytest.fixture(scope="session")
def rows() -> Iterator[list[tuple[str, str, str, str]]]:
    """The rows of the table, which is written at the end if a file is asked for."""
    result: list[tuple[str, str, str, str]] = []
    yield result
    if target := os.environ.get("FLUORO_REG_FAULT_TABLE"):
        lines = [f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in row)} |" for row in result]
        Path(target).write_text("\n".join([*HEADER, *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def make_world(start: Callable[[list[str]], RosProcess]) -> Iterator[Callable[..., World]]:
    """Make worlds with a node of their own, with ROS arguments and a kind of fake tracker."""
    probes = []

    def make(*arguments: str, tracker: str = "", autostart: bool = True) -> World:
        node = start(fake_node("-p", f"autostart:={str(autostart).lower()}", *arguments, tracker=tracker))
        probes.append(Probe())
        if autostart:
            probes[-1].wait_until_connected(settle_s=0.5)
        return World(node, probes[-1])

    yield make
    for probe in probes:
        probe.close()
