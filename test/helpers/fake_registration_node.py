"""Run `registration_node` as a process, with a fake tracker that returns a known pose."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file is run as a script, so `helpers` must be made importable

from fluoro_reg.ros.node import main  # noqa: E402
from fluoro_reg.ros.session import Session  # noqa: E402
from helpers.ros_bench import FakeTracker, empty_ct  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(load=lambda *_: Session(empty_ct(), FakeTracker(), "fake")))
