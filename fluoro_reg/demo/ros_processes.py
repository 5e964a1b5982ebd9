"""ROS 2 programs of this package as processes of their own, started, watched and always ended.

They meet in a DDS domain that nobody else on this machine uses, over loopback with a profile for large images, whatever ROS
settings the shell happens to have. Lines that they print on standard output are JSON and become events; their logs are kept,
and when one of them dies its last lines are the explanation. Nothing here imports ROS.
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

LEAKED = (  # settings of a shell that would lead the processes apart, or elsewhere
    *("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "ROS_NAMESPACE"),
    *("ROS_SECURITY_ENABLE", "RMW_IMPLEMENTATION", "RMW_FASTRTPS_USE_QOS_FROM_XML", "RCUTILS_LOGGING_USE_STDOUT"),
    *("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"),
)
DOMAINS = range(1, 102)  # those whose ports lie below the ports that Linux gives to anybody
DISCOVERY_PORT, PORTS_PER_DOMAIN = 7410, 250  # RTPS 2.5, section 9.6.2: the first participant's port for discovery
SIGNAL_TIMEOUT_S = 10.0
KEPT_LINES = 15


class RosProcessError(Exception):
    """A process did not do what it was started for; the message says which and shows its last lines."""


class RosProcess:
    """One running program."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str], events: queue.Queue) -> None:
        self.name = name
        self._events = events
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
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
            start_new_session=True,  # Ctrl-C is for the demo, which ends its processes in order
        )
        self._readers = [
            threading.Thread(target=read, args=(stream,), daemon=True)
            for read, stream in ((self._read_events, self._process.stdout), (self._read_log, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def wait_until_it_says(self, text: str, timeout_s: float) -> None:
        """Returns when a line of its log holds `text`.

        Raises:
            RosProcessError: it ends before, or does not say so in time.
        """
        end = time.monotonic() + timeout_s
        while not any(text in line for line in self._log):
            self.check()
            if time.monotonic() > end:
                raise RosProcessError(self._explained(f"{self.name} is not ready after {timeout_s:g} s"))
            time.sleep(0.02)

    def check(self) -> None:
        """Nothing, unless it has ended with an error.

        Raises:
            RosProcessError: it has.
        """
        status = self._process.poll()
        if status:
            for reader in self._readers:
                reader.join(1)
            how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
            raise RosProcessError(self._explained(f"{self.name} {how}"))

    def end(self) -> None:
        """Asks it to end, ever less politely."""
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
        """All that it wrote on standard error."""
        return "".join(self._log)

    def _explained(self, sentence: str) -> str:
        lines = "".join(f"\n  {line.rstrip()}" for line in self._said)
        return f"{sentence}; its last lines:{lines}" if lines else f"{sentence}, without a word"

    def _read_events(self, stream: Iterable[str]) -> None:
        for line in stream:
            try:
                self._events.put((self.name, json.loads(line)))
            except json.JSONDecodeError:
                self._said.append(line)
        self._events.put((self.name, None))

    def _read_log(self, stream: Iterable[str]) -> None:
        for line in stream:
            self._said.append(line)
            self._log.append(line)


class RosProcesses:
    """The processes of one ROS graph. `events` holds (name, JSON object), and (name, None) when a standard output ends."""

    def __init__(self, folder: Path) -> None:
        self.events: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
        self._folder = folder
        self._environment = ros_environment()
        self._running: list[RosProcess] = []

    def start(self, name: str, program: str, *arguments: str) -> RosProcess:
        """Starts `fluoro_reg.ros.<program>` in the folder."""
        command = [sys.executable, "-m", f"fluoro_reg.ros.{program}", *arguments]
        self._running.append(RosProcess(name, command, self._folder, self._environment, self.events))
        return self._running[-1]

    def check(self) -> None:
        """Raises RosProcessError when one has ended with an error."""
        for process in self._running:
            process.check()

    def end(self) -> None:
        """Ends all, the last one first, and writes their logs."""
        for process in reversed(self._running):
            process.end()
            (self._folder / f"{process.name}.log").write_text(process.log(), encoding="utf-8")


@contextmanager
def ros_processes(folder: Path) -> Iterator[RosProcesses]:
    """Processes that end with the context, also when the demo itself is told to end."""

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
    """The shell's environment without its ROS settings, with a free domain and the profile for large images."""
    environment = {name: value for name, value in os.environ.items() if name not in LEAKED}
    profile = {dds_profile_variable(): str(dds_profile())}
    return {**environment, **profile, "ROS_DOMAIN_ID": str(free_domain()), "PYTHONUNBUFFERED": "1"}


def free_domain() -> int:
    """A DDS domain that has no participant on this machine, by chance among those; the seed of the demo has no say in it."""
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", DISCOVERY_PORT + PORTS_PER_DOMAIN * domain))
            except OSError:
                continue
            return domain
    raise RosProcessError(f"all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are in use on this machine")
