"""A node that dies or hangs, in a real process: what consumers notice, and what the node says."""

import re
import signal
import time

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, Probe
from helpers.ros_processes import fake_node
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSDurabilityPolicy, QoSLivelinessPolicy, QoSProfile
from std_msgs.msg import Bool

pytestmark = pytest.mark.ros

NOTICED_S = 1.5  # the lease of `~/valid` and some delay


@pytest.fixture
def probe():
    result = Probe()
    yield result
    result.close()


@pytest.fixture
def lost(probe):
    """The times at which a consumer that requests deadline and liveliness of `~/valid` lost the node."""
    times = []
    profile = QoSProfile(
        depth=1,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
        deadline=Duration(seconds=0.5),
        liveliness=QoSLivelinessPolicy.MANUAL_BY_TOPIC,
        liveliness_lease_duration=Duration(seconds=1.0),
    )

    def on_liveliness(event):
        if event.alive_count == 0:
            times.append(time.monotonic())

    events = SubscriptionEventCallbacks(liveliness=on_liveliness)
    probe.probe.create_subscription(Bool, "registration_node/valid", lambda _: None, profile, event_callbacks=events)
    return times


def send_two(probe):
    probe.wait_until_connected(settle_s=0.5)
    for step in range(2):
        assert probe.send_and_wait(FIRST_STAMP + step * FRAME_NS).level == DiagnosticStatus.OK
    probe.spin_until(lambda: any(message.data for message in probe.received["valid"]))


def test_valid_falls_when_the_process_is_killed(start, probe, lost):
    node = start(fake_node("-p", "autostart:=true", "-p", "valid_timeout:=60.0"))
    send_two(probe)
    probe.spin_for(1.2)
    assert not lost  # ~/valid is repeated while the node lives
    node.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    probe.spin_until(lambda: lost)
    assert lost[0] - killed < NOTICED_S
    assert probe.received["valid"][-1].data  # the last word of a dead node, which nobody should believe


def test_a_registration_that_hangs_is_said_and_ends_the_node(start, probe):
    node = start(fake_node("-p", "autostart:=true", "-p", "computation_timeout:=1.0", tracker="sleeps"))
    send_two(probe)
    status = probe.send_and_wait(FIRST_STAMP + 2 * FRAME_NS)
    sentence = "a registration has not ended within computation_timeout = 1 s; the node ends itself"
    assert status.message == sentence
    probe.spin_until(lambda: not probe.received["valid"][-1].data)
    reported = (DiagnosticStatus.ERROR, sentence)
    probe.spin_until(lambda: reported in [(s.level, s.message) for m in probe.received["diagnostics"] for s in m.status])
    assert node.wait(10) == 3
    assert f"no pose is published: {sentence}" in node.log
    assert len(probe.transforms()) == 2


def test_native_code_that_holds_the_interpreter_ends_the_node_with_its_stacks(start, probe, lost):
    node = start(fake_node("-p", "autostart:=true", "-p", "computation_timeout:=1.0", tracker="holds"))
    send_two(probe)
    probe.send(FIRST_STAMP + 2 * FRAME_NS)
    sent = time.monotonic()
    probe.spin_until(lambda: lost)
    assert lost[0] - sent < NOTICED_S + 0.5
    assert node.wait(20) == 1
    assert re.search(r"Timeout \(0:00:0[56]", node.log)  # what is left of 1 s and of the grace of 5 s when it is armed
    assert "hang_in_third" in node.log  # where it hangs
