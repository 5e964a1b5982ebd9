"""Programs of this package as processes, whose log a test reads while they run."""

import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
FAKE_NODE = [sys.executable, str(TESTS / "helpers" / "fake_registration_node.py")]


def ros_program(name: str, *arguments: str) -> list[str]:
    """Return the command of a program in `fluoro_reg/ros`."""
    return [sys.executable, "-m", f"fluoro_reg.ros.{name}", *arguments]


def fake_node(*arguments: str, tracker: str = "") -> list[str]:
    """Return the command of a node with a fake tracker of a kind, with ROS arguments.

    Its subscriptions are reliable unless the arguments say otherwise: a best-effort image may be lost, and tests wait for
    answers.
    """
    return [*FAKE_NODE, *([tracker] if tracker else []), "--ros-args", "-p", "qos.image:=reliable", *arguments]


class RosProcess:
    """A running process and the lines of its log."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)

    def wait_for_log(self, pattern: str, timeout_s: float = 60.0) -> str:
        """Wait until a line of the log matches, and return it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                if self.process.poll() is not None and not self._reader.is_alive() and self._lines.empty():
                    break
                continue
            self.log += line
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no line of the log matches '{pattern}':\n{self.log}")

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for the end of the process; return its status. The rest of its log is in `log`."""
        status = self.process.wait(timeout_s)
        self._reader.join(5)
        while not self._lines.empty():
            self.log += self._lines.get()
        return status

    def output(self) -> list[str]:
        """Wait for the end of the process; return the lines of its standard output."""
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines()

    def resources(self) -> tuple[int, int, float]:
        """Return open descriptors, threads and resident memory in MB."""
        folder = Path(f"/proc/{self.process.pid}")
        status = (folder / "status").read_text()
        threads, kilobytes = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) for key in ("Threads", "VmRSS"))
        return len(list((folder / "fd").iterdir())), threads, kilobytes / 1024

    def stop(self) -> None:
        """Stop the process if it still runs; a killed process would leave its shared memory locked."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
