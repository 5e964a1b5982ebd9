"""ROS 2 programs of this package in separate processes, which are monitored and always terminated.

The processes use a DDS domain that no other process on this machine uses, over loopback with a profile for large images. ROS
settings of the shell are ignored. The processes print JSON lines on standard output, which become events. Their logs are kept,
and an error message about a process quotes its last lines. This module does not import ROS.
"""

import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fluoro_reg.resources import dds_profile, dds_profile_variable

IGNORED_VARIABLES = (  # settings of the shell that could prevent discovery or change the middleware
    *("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "ROS_NAMESPACE"),
    *("ROS_SECURITY_ENABLE", "RMW_IMPLEMENTATION", "RMW_FASTRTPS_USE_QOS_FROM_XML", "RCUTILS_LOGGING_USE_STDOUT"),
    *("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"),
)
DOMAINS = range(1, 102)  # domains whose ports are below the ephemeral ports of Linux
DISCOVERY_PORT, PORTS_PER_DOMAIN = 7410, 250  # RTPS 2.5, section 9.6.2: discovery port of the first participant
SIGNAL_TIMEOUT_S = 10.0
QUOTED_LINES = 15


class RosProcessError(Exception):
    """A ROS process died or did not become ready; the message names it and quotes its last lines."""


class RosProcess:
    """One running program."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str], events: queue.Queue) -> None:
        self.name = name
        self._events = events
        self._last_lines: deque[str] = deque(maxlen=QUOTED_LINES)
        self._log: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C must reach only the demo, which ends its processes in order
        )
        self._readers = [
            threading.Thread(target=read, args=(stream,), daemon=True)
            for read, stream in ((self._read_events, self._process.stdout), (self._read_log, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def process_id(self) -> int:
        return self._process.pid

    def wait_for_log(self, text: str, timeout_s: float) -> None:
        """Wait until a line of the log contains `text`.

        Raises:
            RosProcessError: The process ends first, or the timeout expires.
        """
        end = time.monotonic() + timeout_s
        while not any(text in line for line in self._log):
            self.check()
            if time.monotonic() > end:
                raise RosProcessError(self._with_last_lines(f"{self.name} is not ready after {timeout_s:g} s"))
            time.sleep(0.02)

    def check(self) -> None:
        """Check that the process has not failed.

        Raises:
            RosProcessError: It has ended with an error.
        """
        status = self._process.poll()
        if status:
            for reader in self._readers:
                reader.join(1)
            how = f"ended with status {status}" if status > 0 else f"was terminated by signal {-status}"
            raise RosProcessError(self._with_last_lines(f"{self.name} {how}"))

    def end(self) -> None:
        """Terminate the process with SIGINT, SIGTERM and finally SIGKILL."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                try:
                    self._process.wait(SIGNAL_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    continue
        for reader in self._readers:
            reader.join(1)

    def log(self) -> str:
        """Return its standard error so far."""
        return "".join(self._log)

    def _with_last_lines(self, sentence: str) -> str:
        lines = "".join(f"\n  {line.rstrip()}" for line in self._last_lines)
        return f"{sentence}; its last lines:{lines}" if lines else f"{sentence} without any output"

    def _read_events(self, stream: Iterable[str]) -> None:
        for line in stream:
            try:
                self._events.put((self.name, json.loads(line)))
            except json.JSONDecodeError:
                self._last_lines.append(line)
        self._events.put((self.name, None))

    def _read_log(self, stream: Iterable[str]) -> None:
        for line in stream:
            self._last_lines.append(line)
            self._log.append(line)


class RosProcesses:
    """The processes of one ROS graph.

    `events` receives (name, JSON object) for each line on standard output, and (name, None) at its end. `environment` is what a
    program needs to take part in the graph.
    """

    def __init__(self, folder: Path) -> None:
        self.events: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
        self._folder = folder
        self.environment = ros_environment()
        self._running: list[RosProcess] = []

    def start(self, name: str, program: str, *arguments: str) -> RosProcess:
        """Start `fluoro_reg.ros.<program>` in the folder."""
        command = [sys.executable, "-m", f"fluoro_reg.ros.{program}", *arguments]
        self._running.append(RosProcess(name, command, self._folder, self.environment, self.events))
        return self._running[-1]

    def check(self) -> None:
        """Check that no process has failed.

        Raises:
            RosProcessError: A process has ended with an error.
        """
        for process in self._running:
            process.check()

    def end(self) -> None:
        """Terminate all processes in reverse order and write their logs."""
        for process in reversed(self._running):
            process.end()
            (self._folder / f"{process.name}.log").write_text(process.log(), encoding="utf-8")


@contextmanager
def ros_processes(folder: Path) -> Iterator[RosProcesses]:
    """Yield processes that end with the context, also if the demo receives SIGTERM or SIGHUP."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    processes = RosProcesses(folder)
    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield processes
    finally:
        processes.end()
        for number, handler in previous.items():
            signal.signal(number, handler)


def ros_environment() -> dict[str, str]:
    """Return the environment without the ROS settings of the shell, with a free domain and the profile for large images."""
    environment = {name: value for name, value in os.environ.items() if name not in IGNORED_VARIABLES}
    profile = {dds_profile_variable(): str(dds_profile())}
    return {**environment, **profile, "ROS_DOMAIN_ID": str(free_domain()), "PYTHONUNBUFFERED": "1"}


def free_domain() -> int:
    """Return a random DDS domain without participants on this machine, independent of the demo's seed.

    Raises:
        RosProcessError: All domains are in use.
    """
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", DISCOVERY_PORT + PORTS_PER_DOMAIN * domain))
            except OSError:
                continue
            return domain
    raise RosProcessError(f"all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are in use on this machine")
