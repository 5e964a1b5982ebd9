"""The wait policy of torch's threads, which must be set before torch is loaded.

Idle OpenMP threads spin by default. On a machine that runs other processes too, they take the cores from the threads that they
wait for: a benchmark of this package took five times as long. Programs (the command line, the node) therefore set the policy
first. A library must not decide this for its users, and a value that the user has set is kept.
"""

import os


def use_passive_waiting() -> None:
    """Set OMP_WAIT_POLICY to PASSIVE unless it is set. It has no effect after torch is loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
