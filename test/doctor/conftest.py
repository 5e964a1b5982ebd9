"""Inputs of the doctor: a small DICOM CT, and X-rays with and without geometry."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_images import line_integrals, photons, write_xa

from fluoro_reg.doctor.examination import Examination
from fluoro_reg.doctor.examine import DoctorOptions, examine_paths

GEOMETRY = {"DistanceSourceToDetector": 1000.0, "ImagerPixelSpacing": [0.4, 0.5]}


@pytest.fixture(scope="session")
def xray_pixels() -> np.ndarray:
    return photons(line_integrals(256)).clip(0, 4095).astype(np.uint16)


@pytest.fixture
def xray_file(tmp_path: Path, xray_pixels: np.ndarray) -> Callable[..., Path]:
    """Return a function that writes an X-ray with the given DICOM attributes."""

    def write(name: str = "x.dcm", **tags: object) -> Path:
        return write_xa(tmp_path / name, xray_pixels, **tags)

    return write


@pytest.fixture
def examine() -> Callable[..., Examination]:
    """Return a function that examines one input."""

    def run(path: Path, options: DoctorOptions | None = None) -> Examination:
        (examination,) = examine_paths([path], options or DoctorOptions())
        return examination

    return run
