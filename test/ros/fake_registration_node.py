"""`registration_node` as a process, with the tracker whose answer is known."""

import sys

from ros_bench import FakeTracker, empty_ct

from fluoro_reg.ros.node import main
from fluoro_reg.ros.session import Session

if __name__ == "__main__":
    sys.exit(main(load=lambda *_: Session(empty_ct(), FakeTracker())))
