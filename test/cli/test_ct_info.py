"""`fluoro-reg ct-info` on a DICOM series of known geometry."""

import numpy as np
import pytest

from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    hu = np.random.default_rng(0).uniform(-200, 800, (6, 10, 8)).astype(np.float32)
    write_dicom_series(folder, hu, np.array([[2.0, 0, 0, -7], [0, 2.5, 0, -11], [0, 0, 5, 30], [0, 0, 0, 1]]))
    return folder


def test_the_geometry_is_that_of_the_series(cli, series):
    summary = cli("ct-info", series, "--json").json()
    assert summary["shape_ijk"] == [8, 10, 6]
    assert summary["voxel_size_mm"] == [2.0, 2.5, 5.0]
    assert summary["patient_from_voxel"] == [[2, 0, 0, -7], [0, 2.5, 0, -11], [0, 0, 5, 30], [0, 0, 0, 1]]
    assert -201 <= summary["hu_range"][0] < summary["hu_range"][1] <= 801
    assert len(summary["fingerprint"]) == 64


def test_the_text_has_the_same_content_without_names(cli, series):
    finished = cli("ct-info", series)
    assert finished.status == 0
    assert "8, 10, 6" in finished.out
    assert cli("ct-info", series, "--json").json()["fingerprint"] in finished.out
    assert "PHANTOM" not in finished.out + finished.err
