"""Signals in every state of the node."""

import signal
import time

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

pytestmark = [pytest.mark.ros, pytest.mark.faults]

STATES = ("loading", "unconfigured", "inactive", "active", "registering")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_the_node_in_every_state(make_world, state, number, rows):
    tracker = {"loading": "loads", "registering": "sleeps"}.get(state, "")
    if state == "loading":
        world = make_world("-p", "ct.path:=x", tracker=tracker, autostart=False)
        world.node.wait_for_log("unconfigured")
        client = world.probe.probe.create_client(ChangeState, "registration_node/change_state")
        world.probe.spin_until(client.service_is_ready)
        client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        world.probe.spin_for(0.2)
        world.node.wait_for_log("loading")
    else:
        world = make_world(tracker=tracker, autostart=state in ("active", "registering"))
        world.node.wait_for_log("unconfigured" if state in ("unconfigured", "inactive") else "active:")
    if state == "inactive":
        world.change("configure")
    if state in ("active", "registering"):
        world.accept_one()
        world.accept_one()
        if state == "registering":
            world.probe.send(world.next_stamp())
            world.probe.spin_for(0.5)
        world.probe.spin_until(lambda: any(message.data for message in world.probe.received["valid"]))
    world.node.send_signal(number)
    began = time.monotonic()
    slow = state in ("loading", "registering") and number is not signal.SIGKILL
    if slow:  # the first signal waits for the computation; the second one ends the program
        world.probe.spin_for(1.0)
        assert world.node.process.poll() is None
        world.node.send_signal(number)
    status = world.node.wait(10)
    took = time.monotonic() - began
    world.probe.spin_for(0.3)
    assert "Traceback" not in world.node.log
    assert status == (-number if slow or number is signal.SIGKILL else 0)
    valid = [message.data for message in world.probe.received["valid"]]
    if state in ("active", "registering") and number is not signal.SIGKILL:
        assert valid[-1] is False
    then = f"status {status} after {took:.1f} s" + (", second signal" if slow else "")
    rows.append((f"{number.name} while {state}", "nothing more", f"~/valid {valid[-1] if valid else 'never published'}", then))
