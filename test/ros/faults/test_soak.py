"""Many frames, some of which are rejected: memory, descriptors and threads stay what they were.

FLUORO_REG_SOAK_FRAMES is the number of frames, 3000 by default.
"""

import os

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.faults]

FRAMES = int(os.environ.get("FLUORO_REG_SOAK_FRAMES", "3000"))
WARM_UP, CHUNK = 500, 100  # frames
BLANK = 7  # every seventh frame is rejected
GROWTH_MB = 10.0  # of all frames after the first; a leak of one image of 8 kB in each would be 24 MB in 3000


def test_many_frames_leave_nothing_behind(make_world, rows):
    world = make_world(tracker="forgets")
    play(world, WARM_UP)
    before = world.node.resources()
    accepted = play(world, FRAMES)
    after = world.node.resources()
    assert accepted == FRAMES - sum((n + 1) % BLANK == 0 for n in range(FRAMES))
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1]
    assert after[2] <= before[2] + GROWTH_MB
    counts = f"descriptors {before[0]} -> {after[0]}, threads {before[1]} -> {after[1]}"
    said = f"{counts}, memory {before[2]:.0f} -> {after[2]:.0f} MB"
    rows.append((f"{FRAMES} frames, every seventh of them blank", f"{accepted} poses", said, "goes on"))


def play(world, frames):
    """Send frames one after the other, and return how many were accepted."""
    accepted = 0
    for n in range(frames):
        if n % CHUNK == 0:
            for messages in world.probe.received.values():
                messages.clear()
        status = world.probe.send_and_wait(world.next_stamp(), blank=(n + 1) % BLANK == 0)
        accepted += status.message == "all gates hold"
    return accepted
