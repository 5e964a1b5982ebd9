"""What the packages below log with Python's `logging` is in the node's log."""

import logging
import signal
import sys
from pathlib import Path

import pytest
import rclpy
from helpers.ros_processes import fake_node

from fluoro_reg.ros.python_log import python_log_in

pytestmark = pytest.mark.ros

CORE = logging.getLogger("fluoro_reg.registration.stages.view_search")


@pytest.fixture
def logger():
    node = rclpy.create_node("logs")
    yield node.get_logger()
    node.destroy_node()


def test_records_keep_their_severity_in_any_order(logger, capfd):
    with python_log_in(logger):
        for log in (CORE.warning, CORE.info, CORE.error, CORE.warning, CORE.debug):
            log("templates: %.0f MB", 12.3)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("]")[0] for line in lines] == ["[WARN", "[INFO", "[ERROR", "[WARN"]  # the node's level is info
    assert all(line.endswith("[logs]: templates: 12 MB") for line in lines)


def test_tracebacks_and_other_packages_stay_out(logger, capfd):
    with python_log_in(logger):
        try:
            raise ValueError("Doe^Jane")
        except ValueError:
            CORE.exception("a file cannot be read")
        logging.getLogger("pydicom").info("Doe^Jane")
    log = capfd.readouterr().err
    assert "[logs]: a file cannot be read" in log
    assert "Doe" not in log


def test_a_message_that_cannot_be_formatted_neither_raises_nor_says_its_arguments(logger, capfd, monkeypatch):
    """It is logged in the middle of a registration, which goes on."""
    monkeypatch.setattr(logging.getLogger("fluoro_reg"), "propagate", False)  # or pytest's own handler raises
    with python_log_in(logger):
        CORE.info("%d templates", "Doe^Jane")
        CORE.info("%d templates", 12)
    first, second = capfd.readouterr().err.splitlines()
    assert "[ERROR]" in first
    assert "[logs]: what test_python_log, line " in first
    assert "Doe" not in first
    assert second.endswith("[logs]: 12 templates")


def test_the_context_leaves_nothing_behind(logger, capfd):
    package = logging.getLogger("fluoro_reg")
    before = (package.level, list(package.handlers))
    with python_log_in(logger):
        pass
    assert (package.level, package.handlers) == before
    CORE.info("after the end")
    assert "after the end" not in capfd.readouterr().err


def test_a_node_forwards_what_is_logged_while_it_loads(start):
    node = start(fake_node("-p", "autostart:=true", tracker="logs"))
    assert "[INFO]" in node.wait_for_log(r"\[registration_node\]: templates for a search")
    node.wait_for_log("active:")


LOGS_AT_THE_END = """
import logging, sys
from fluoro_reg.ros.node import main
from fluoro_reg.ros.session import Session
sys.path.insert(0, sys.argv.pop(1))
from helpers.ros_bench import FakeTracker, empty_ct

class LogsAtTheEnd(FakeTracker):
    def close(self, timeout_s):
        logging.getLogger("fluoro_reg.registration").warning("the search is given up")
        return True

sys.exit(main(load=lambda *_: Session(empty_ct(), LogsAtTheEnd(), "fake")))
"""


def test_a_node_forwards_what_is_logged_while_it_ends(start):
    tests = str(Path(__file__).resolve().parents[1])
    node = start([sys.executable, "-c", LOGS_AT_THE_END, tests, "--ros-args", "-p", "autostart:=true"])
    node.wait_for_log("active:")
    node.process.send_signal(signal.SIGTERM)
    assert "[WARN]" in node.wait_for_log(r"\[registration_node\]: the search is given up")
    assert node.process.wait(30.0) == 0
