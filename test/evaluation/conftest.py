"""A phantom that is coarse enough for tests, as a CT volume, as a DICOM folder, and as cases to register."""

from pathlib import Path

import pytest

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu

COARSE = PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "ct"
    write_dicom_series(folder, *phantom_hu(COARSE))
    return folder


@pytest.fixture(scope="session")
def phantom(phantom_folder: Path) -> CTVolume:
    return read_ct(phantom_folder)


@pytest.fixture(scope="session")
def small_cases(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases that register in a fraction of a second."""
    options = CaseOptions(count=4, size_px=64, start_mm=((3.0, 6.0),), variants=("standard", "noisy"), seed=2)
    folder = tmp_path_factory.mktemp("evaluation") / "cases"
    simulate_cases(phantom_folder, folder, options)
    return folder
