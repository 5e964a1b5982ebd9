"""Starts that would stay silent, and signals during a start, in real processes."""

import signal
import sys
import time
from pathlib import Path

import pytest
from helpers.ros_processes import fake_node

from fluoro_reg.ros.parameter_sources import unmatched_parameters

pytestmark = pytest.mark.ros


def test_an_autostart_given_as_a_text_ends_the_node_with_a_sentence(start):
    node = start(fake_node("-p", "autostart:='true'"))
    assert node.wait(60) == 2
    assert "cannot start: parameters: 'autostart' must be of type bool, got 'true'; write true or false, without" in node.log


def test_an_unconfigured_node_says_what_it_waits_for_and_which_parameters_are_not_its_own(start, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("fluoro:\n  ros__parameters:\n    autostart: true\n")
    node = start(fake_node("--params-file", str(file)))
    node.wait_for_log(r"mine.yaml is for '/fluoro', not for this node, '/registration_node', and is ignored; name the node")
    node.wait_for_log("autostart is false: waiting for .* or `ros2 lifecycle set /registration_node configure`")
    node.send_signal(signal.SIGINT)
    assert node.wait() == 0


@pytest.mark.parametrize(
    ("content", "matches"),
    [
        ("/**: {ros__parameters: {a: 1}}", True),
        ("/room/registration_node: {ros__parameters: {a: 1}}", True),
        ("room: {registration_node: {ros__parameters: {a: 1}}}", True),
        ("/*/registration_node: {ros__parameters: {a: 1}}", True),
        ("/**/registration_node: {ros__parameters: {a: 1}}", True),
        ("{other: {ros__parameters: {a: 1}}, /room/*: {ros__parameters: {a: 1}}}", True),
        ("registration_node: {ros__parameters: {a: 1}}", False),
        ("/*: {ros__parameters: {a: 1}}", False),
        ("/room/other: {ros__parameters: {a: 1}}", False),
    ],
)
def test_names_in_a_parameters_file_match_as_ros_matches_them(tmp_path, content, matches):
    file = tmp_path / "file.yaml"
    file.write_text(content)
    lines = unmatched_parameters(["node", "--ros-args", "--params-file", str(file)], "/room/registration_node")
    assert lines == [] if matches else len(lines) == 1


def test_an_assignment_to_another_node_is_reported():
    assert len(unmatched_parameters(["-p", "other:ct.path:=x"], "/registration_node")) == 1
    assert not unmatched_parameters(["-p", "registration_node:ct.path:=x", "-p", "ct.path:=a:=b"], "/registration_node")


def test_an_interrupt_during_the_imports_leaves_no_traceback(start):
    code = "import sys; from fluoro_reg.ros.programs import registration_node; sys.exit(registration_node())"
    node = start([sys.executable, "-c", code])
    maps = Path(f"/proc/{node.process.pid}/maps")
    end = time.monotonic() + 60
    while "libtorch" not in maps.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    node.send_signal(signal.SIGINT)
    assert node.wait() in (0, -signal.SIGINT)
    assert "Traceback" not in node.log


def test_an_interrupt_while_the_ct_is_loaded_ends_the_node_at_once_without_a_traceback(start):
    node = start(fake_node("-p", "autostart:=true", tracker="loads"))
    node.wait_for_log("loading")
    node.send_signal(signal.SIGINT)
    assert node.wait(5) == 0
    assert "Traceback" not in node.log
