"""Fixtures of the ROS tests, which use their own domain and the loopback profile, and skip if ROS 2 is not installed."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed: run scripts/bootstrap.sh or source one")

from helpers.ros_bench import Bench, FakeTracker, empty_ct  # noqa: E402
from helpers.ros_processes import RosProcess  # noqa: E402

from fluoro_reg.ct.volume import CTVolume  # noqa: E402
from fluoro_reg.resources import dds_profile, dds_profile_variable  # noqa: E402
from fluoro_reg.ros.node import SessionLoader  # noqa: E402

os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 90)  # the tests of the demo use others
os.environ[dds_profile_variable()] = str(dds_profile())


@pytest.fixture(scope="session", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Make benches and close them at the end; keyword arguments are ROS parameters, with `__` for a dot."""
    benches = []

    def make(
        tracker: FakeTracker | None = None,
        ct: CTVolume | None = None,
        arguments: list[str] | None = None,
        load: SessionLoader | None = None,
        **parameters: Any,
    ) -> Bench:
        given = [x for name, value in parameters.items() for x in ("-p", f"{name.replace('__', '.')}:={value}")]
        benches.append(Bench(tracker or FakeTracker(), ct or empty_ct(), [*given, *(arguments or [])], load))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """An active node with a fake tracker and default parameters."""
    result = make_bench()
    result.activate()
    return result


@pytest.fixture
def start() -> Iterator[Callable[[list[str]], RosProcess]]:
    """Start processes; those still running at the end are stopped."""
    processes = []

    def run(command: list[str]) -> RosProcess:
        processes.append(RosProcess(command))
        return processes[-1]

    yield run
    for process in processes:
        process.stop()
