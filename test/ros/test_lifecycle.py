"""Lifecycle transitions of the node."""

from dataclasses import replace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import empty_ct
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, key_values
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn

pytestmark = pytest.mark.ros


def state_of(bench):
    return bench.call(GetState, "get_state").current_state.id


def test_an_inactive_node_publishes_nothing_until_it_is_active_again(bench):
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: len(bench.transforms()) == 1 and bench.received["valid"][-1].data)
    assert bench.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    bench.spin_until(lambda: not bench.received["valid"][-1].data)
    bench.spin_for(0.2)
    counts = {name: len(messages) for name, messages in bench.received.items()}
    for step in (1, 2, 3):
        bench.send(FIRST_STAMP + step * FRAME_NS)
    bench.spin_for(1.3)
    assert {name: len(messages) for name, messages in bench.received.items()} == counts
    assert len(bench.tracker.images) == 1

    assert bench.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.spin_until(
        lambda: bench.image_publisher.get_subscription_count() > 0 and bench.camera_info_publisher.get_subscription_count() > 0
    )
    assert bench.send_and_wait(FIRST_STAMP + 4 * FRAME_NS).level == DiagnosticStatus.OK


def test_every_transition_works_through_its_service(make_bench):
    bench = make_bench()
    for transition, state in (
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (Transition.TRANSITION_ACTIVE_SHUTDOWN, State.PRIMARY_STATE_FINALIZED),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert bench.call(ChangeState, "change_state", request).success
        assert state_of(bench) == state


def test_an_exception_in_configure_leaves_the_node_unconfigured(make_bench):
    def broken(*_):
        raise RuntimeError("a defect")

    bench = make_bench(load=broken)
    assert bench.node.trigger_configure() == TransitionCallbackReturn.ERROR
    assert state_of(bench) == State.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.parametrize(("is_hu", "level"), [(True, DiagnosticStatus.OK), (False, DiagnosticStatus.WARN)])
def test_a_ct_that_may_not_be_in_hu_stays_a_warning_of_the_diagnostics(make_bench, is_hu, level):
    warnings = ("the minimum is 0, so there is no air (-1000 HU); is the CT in HU?",)
    bench = make_bench(ct=replace(empty_ct(), warnings=warnings, is_hu=is_hu))
    bench.activate()
    for _ in range(2):
        status = bench.diagnostics("ct")
        assert status.level == level
        assert key_values(status) == {"warning 1": warnings[0]}
        bench.spin_for(1.1)
