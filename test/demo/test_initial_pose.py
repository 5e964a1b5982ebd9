"""The initial pose of the demo: from the package's weights for the default phantom, and a given pose for other CTs."""

import dataclasses

import numpy as np
import pytest

from fluoro_reg.demo.initial_pose import PHANTOM_WEIGHTS, with_weights
from fluoro_reg.demo.scene import DemoOptions, make_phantom
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.regressor.checkpoint import load_regressor
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_volume


@pytest.fixture(scope="module")
def default_phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    return folder, make_phantom(folder, DemoOptions())


def test_the_weights_of_the_package_fit_the_default_phantom(default_phantom):
    """The weights are bound to the CT's fingerprint, so this also checks that the phantom is the same on this processor."""
    folder, ct = default_phantom
    options = with_weights(folder, ct, DemoOptions())
    assert options.registration.model == PHANTOM_WEIGHTS
    assert (folder / PHANTOM_WEIGHTS).stat().st_size < 8e6
    network = load_regressor(folder / PHANTOM_WEIGHTS, phantom_volume(PhantomOptions()))
    assert sum(p.numel() for p in network.parameters()) > 1e5


def test_a_given_initial_pose_can_be_requested(default_phantom):
    folder, ct = default_phantom
    options = DemoOptions(given_start=True)
    assert with_weights(folder, ct, options) == options


def test_another_ct_gets_a_given_initial_pose(tmp_path):
    hu = np.full((12, 12, 12), -1000, np.float32)
    hu[3:9, 3:9, 3:9] = 700
    write_dicom_series(tmp_path / "ct", hu, np.diag([10.0, 10.0, 10.0, 1.0]))
    assert with_weights(tmp_path, tmp_path / "ct", DemoOptions()) == DemoOptions()
    assert not (tmp_path / PHANTOM_WEIGHTS).exists()


def test_the_path_of_other_weights_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = dataclasses.replace(DemoOptions(), registration=RegistrationOptions(model="mine.safetensors"))
    assert with_weights(tmp_path / "demo", tmp_path, options).registration.model == str(tmp_path / "mine.safetensors")
