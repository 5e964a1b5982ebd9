"""The benchmarks are scripts, not a package: their folder is what Python searches when one of them runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
