"""Management of ROS processes: they always end with their context, and an error quotes their last lines."""

import os
import signal
import socket

import pytest

from fluoro_reg.demo import ros_processes
from fluoro_reg.demo.ros_processes import DISCOVERY_PORT, PORTS_PER_DOMAIN, RosProcessError, free_domain, ros_environment

rclpy = pytest.importorskip("rclpy", reason="no ROS 2: scripts/bootstrap.sh installs it as wheels, or source one")

pytestmark = pytest.mark.ros


def alive(process):
    return process._process.poll() is None


def test_a_process_that_dies_is_named_with_its_last_lines(tmp_path):
    with ros_processes.ros_processes(tmp_path) as processes:
        node = processes.start("node", "node", "--ros-args", "-p", "autostart:=true")
        with pytest.raises(RosProcessError, match=r"(?s)node ended with status 2; its last lines:.*ct\.path is empty"):
            node.wait_for_log("active:", 60)
    assert "ct.path is empty" in (tmp_path / "node.log").read_text()


def test_processes_end_when_the_demo_receives_sigterm(tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), ros_processes.ros_processes(tmp_path) as processes:
        listener = processes.start("listener", "tf_listener")
        publisher = processes.start("node", "node")
        assert alive(listener) and alive(publisher)
        os.kill(os.getpid(), signal.SIGTERM)
        listener.wait_for_log("never logged", 60)
    assert not alive(listener)
    assert not alive(publisher)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_log_line_that_does_not_appear_in_time_is_an_error(tmp_path):
    with ros_processes.ros_processes(tmp_path) as processes:
        listener = processes.start("listener", "tf_listener")
        with pytest.raises(RosProcessError, match=r"listener is not ready after 0\.1 s"):
            listener.wait_for_log("connected:", 0.1)


def test_ros_settings_of_the_shell_do_not_reach_the_processes(monkeypatch):
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "another_rmw")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/another.xml")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    environment = ros_environment()
    assert "ROS_LOCALHOST_ONLY" not in environment
    assert "RMW_IMPLEMENTATION" not in environment
    assert environment["FASTDDS_DEFAULT_PROFILES_FILE"].endswith("fastdds_loopback.xml")


def test_a_domain_in_use_is_not_chosen(monkeypatch):
    monkeypatch.setattr(ros_processes, "DOMAINS", range(97, 99))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", DISCOVERY_PORT + PORTS_PER_DOMAIN * 97))
        assert {free_domain() for _ in range(10)} == {98}
