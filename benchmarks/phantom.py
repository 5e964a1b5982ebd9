"""Write the demo's phantom as a DICOM series, as input for other benchmarks.

python benchmarks/phantom.py PHANTOM
fluoro-reg simulate --ct PHANTOM --out CASES
"""

import sys
from pathlib import Path

from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/phantom.py FOLDER")
    write_dicom_series(Path(sys.argv[1]), *phantom_hu(PhantomOptions()))
