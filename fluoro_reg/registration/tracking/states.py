"""The states of a tracker and the events that change them, as one table."""

import enum


class TrackerState(str, enum.Enum):
    """What a tracker knows after a frame."""

    UNINITIALISED = "uninitialised"  # no frame has been registered yet, or there is no pose to begin from
    INITIALISING = "initialising"  # a frame is or was searched around the initial pose, and none has been accepted yet
    TRACKING = "tracking"  # the last frame was accepted
    DEGRADED = "degraded"  # the last frames were not; their poses are predicted from accepted ones, and never published
    LOST = "lost"  # too many frames were not


class FrameEvent(enum.Enum):
    """What became of a frame, or what the user asked for."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # registered, and a gate failed
    UNUSABLE = "unusable"  # not registered: repeated, dark, or without anatomy
    NO_START = "no initial pose"
    SEARCHING = "searching"  # nothing is known about it until a search has ended
    EXPIRED = "too many in a row"  # the last of the frames that a prediction may bridge
    RESET = "reset"


_S, _E = TrackerState, FrameEvent
TRANSITIONS: dict[tuple[TrackerState, FrameEvent], TrackerState] = {
    **{(state, _E.ACCEPTED): _S.TRACKING for state in _S},
    **{(state, _E.RESET): _S.UNINITIALISED for state in _S},
    (_S.UNINITIALISED, _E.SEARCHING): _S.INITIALISING,
    (_S.INITIALISING, _E.SEARCHING): _S.INITIALISING,
    (_S.TRACKING, _E.SEARCHING): _S.DEGRADED,
    (_S.DEGRADED, _E.SEARCHING): _S.DEGRADED,
    (_S.LOST, _E.SEARCHING): _S.LOST,
    (_S.UNINITIALISED, _E.REJECTED): _S.INITIALISING,
    (_S.UNINITIALISED, _E.UNUSABLE): _S.UNINITIALISED,
    (_S.UNINITIALISED, _E.NO_START): _S.UNINITIALISED,
    (_S.INITIALISING, _E.REJECTED): _S.INITIALISING,
    (_S.INITIALISING, _E.UNUSABLE): _S.INITIALISING,
    (_S.INITIALISING, _E.NO_START): _S.UNINITIALISED,
    (_S.TRACKING, _E.REJECTED): _S.DEGRADED,
    (_S.TRACKING, _E.UNUSABLE): _S.DEGRADED,
    (_S.DEGRADED, _E.REJECTED): _S.DEGRADED,
    (_S.DEGRADED, _E.UNUSABLE): _S.DEGRADED,
    (_S.DEGRADED, _E.EXPIRED): _S.LOST,
    (_S.LOST, _E.REJECTED): _S.LOST,
    (_S.LOST, _E.UNUSABLE): _S.LOST,
    (_S.LOST, _E.NO_START): _S.LOST,
}


def next_state(state: TrackerState, event: FrameEvent) -> TrackerState:
    """Return the state after an event.

    Raises:
        KeyError: The event cannot happen in that state.
    """
    return TRANSITIONS[state, event]
