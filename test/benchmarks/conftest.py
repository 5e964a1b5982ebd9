"""The benchmarks are scripts, not a package, so their folder is added to the search path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
