"""How torch's threads wait, set before torch is loaded.

OpenMP's threads spin while they wait, which on a machine that runs anything else besides takes the cores from those they wait
for: a benchmark of this package took five times as long. Programs (the command line, the node) call this first; a library
must not decide it for others. A value that the user set is kept.
"""

import os


def wait_without_spinning() -> None:
    """Sets OMP_WAIT_POLICY to PASSIVE unless it is set; without effect once torch is loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
