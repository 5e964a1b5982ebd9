"""Shared fixtures: the folder of real data, a fixed seed, the phantom, and Triton's interpreter if there is no GPU."""

import os
from pathlib import Path

import pytest
import torch

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu

os.environ.setdefault("FLUORO_REG_CT_CACHE", "off")  # tests leave nothing in the user's cache folder

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must be set before Triton is imported; its kernels then run in Python


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tf2 the patterns of the documentation ran with."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [pair for report in reports for pair in getattr(report, "user_properties", ())]
    for module in sorted({value for name, value in properties if name == "tf2"}):
        terminalreporter.write_line(f"The tf2 patterns of the documentation ran with {module}.")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real data next to the project (or FLUORO_REG_DATA); skip the test if it does not exist."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FLUORO_REG_DATA", default))
    if not folder.is_dir():
        pytest.skip("the folder of real data does not exist; set FLUORO_REG_DATA")
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


COARSE = PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a coarse phantom as a DICOM series."""
    folder = tmp_path_factory.mktemp("phantom") / "ct"
    write_dicom_series(folder, *phantom_hu(COARSE))
    return folder


@pytest.fixture(scope="session")
def phantom(phantom_folder: Path) -> CTVolume:
    """Return the coarse phantom as a CT volume."""
    return read_ct(phantom_folder)
