"""A phantom that is coarse enough for tests, as a CT volume and as a DICOM folder."""

from pathlib import Path

import pytest

from fluoro_reg.ct.phantom import PhantomOptions, phantom_hu
from fluoro_reg.ct.phantom_dicom import write_dicom_series
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume

COARSE = PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "ct"
    write_dicom_series(folder, *phantom_hu(COARSE))
    return folder


@pytest.fixture(scope="session")
def phantom(phantom_folder: Path) -> CTVolume:
    return read_ct(phantom_folder)
