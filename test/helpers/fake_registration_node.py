"""Run `registration_node` as a process, with a fake tracker that returns a known pose.

A first argument names another behaviour: `sleeps` hangs in the third image with the interpreter running, `holds` hangs there in
native code that holds the interpreter, `raises` has a defect there, `loads` never ends loading, and `forgets` keeps no image,
for runs of many. `bodies` answers with four bodies, of which the right femur is rejected. `logs` logs a line while it loads.
"""

import ctypes
import logging
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file is run as a script, so `helpers` must be made importable

from fluoro_reg.ros.node import main  # noqa: E402
from fluoro_reg.ros.session import Session  # noqa: E402
from helpers.body_parts import BodiesFakeTracker, block_bodies  # noqa: E402
from helpers.ros_bench import FakeTracker, block_ct, empty_ct  # noqa: E402

HANG = {"sleeps": lambda: time.sleep(1000), "holds": lambda: ctypes.PyDLL(None).sleep(1000), "raises": lambda: 1 / 0}


def tracker_of(kind: str) -> FakeTracker:
    """Return a tracker that fails in its third image in the given way."""
    tracker = FakeTracker()

    def hang_in_third() -> None:
        if len(tracker.images) == 3:
            HANG[kind]()

    tracker.before_result = hang_in_third
    return tracker


def forgetful_tracker() -> FakeTracker:
    """Return a tracker that keeps nothing."""
    tracker = FakeTracker()

    def forget() -> None:
        tracker.images.clear()
        tracker.stamps.clear()

    tracker.before_result = forget
    return tracker


def load(kind: str) -> Session:
    """Return a session with a fake tracker of the kind."""
    if kind == "loads":
        print("loading", file=sys.stderr, flush=True)
        time.sleep(1000)
    if kind == "logs":
        logging.getLogger("fluoro_reg.registration").info("templates for a search")
    if kind == "bodies":
        return Session(block_ct(), BodiesFakeTracker(rejected={"femur_right"}), "fake", block_bodies())
    if kind == "forgets":
        return Session(empty_ct(), forgetful_tracker(), "fake")
    return Session(empty_ct(), tracker_of(kind) if kind in HANG else FakeTracker(), "fake")


if __name__ == "__main__":
    given = sys.argv.pop(1) if sys.argv[1:2] and sys.argv[1] in (*HANG, "loads", "forgets", "bodies", "logs") else ""
    sys.exit(main(load=lambda *_: load(given)))
