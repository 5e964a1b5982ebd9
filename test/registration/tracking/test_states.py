"""The table of the tracker's states."""

import pytest

from fluoro_reg.registration.tracking.states import TRANSITIONS, FrameEvent, TrackerState, next_state


def test_every_state_is_reached_and_left_again():
    reached = {TrackerState.UNINITIALISED}
    for _ in TrackerState:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(TrackerState)


def test_only_an_accepted_frame_leads_to_tracking():
    assert {event for (_, event), after in TRANSITIONS.items() if after is TrackerState.TRACKING} == {FrameEvent.ACCEPTED}


@pytest.mark.parametrize("state", TrackerState)
def test_every_state_knows_what_a_frame_can_become(state):
    for event in (FrameEvent.ACCEPTED, FrameEvent.REJECTED, FrameEvent.UNUSABLE, FrameEvent.RESET):
        assert isinstance(next_state(state, event), TrackerState)


def test_an_event_that_cannot_happen_is_an_error():
    with pytest.raises(KeyError):
        next_state(TrackerState.TRACKING, FrameEvent.EXPIRED)
