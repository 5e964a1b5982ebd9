"""Where the demo begins: with the shipped weights for the default phantom, and with a given pose for anybody else."""

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


def test_the_shipped_weights_know_the_default_phantom(default_phantom):
    """Also on another processor: the phantom is the same everywhere, or this fails there."""
    folder, ct = default_phantom
    options = with_weights(folder, ct, DemoOptions())
    assert options.registration.model == PHANTOM_WEIGHTS
    assert (folder / PHANTOM_WEIGHTS).stat().st_size < 8e6
    network = load_regressor(folder / PHANTOM_WEIGHTS, phantom_volume(PhantomOptions()))
    assert sum(p.numel() for p in network.parameters()) > 1e5


def test_a_start_may_be_asked_for(default_phantom):
    folder, ct = default_phantom
    options = DemoOptions(given_start=True)
    assert with_weights(folder, ct, options) == options


def test_anybody_else_gets_a_start(tmp_path):
    hu = np.full((12, 12, 12), -1000, np.float32)
    hu[3:9, 3:9, 3:9] = 700
    write_dicom_series(tmp_path / "ct", hu, np.diag([10.0, 10.0, 10.0, 1.0]))
    assert with_weights(tmp_path, tmp_path / "ct", DemoOptions()) == DemoOptions()
    assert not (tmp_path / PHANTOM_WEIGHTS).exists()


def test_ones_own_weights_are_found_from_the_demos_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = dataclasses.replace(DemoOptions(), registration=RegistrationOptions(model="mine.safetensors"))
    assert with_weights(tmp_path / "demo", tmp_path, mine).registration.model == str(tmp_path / "mine.safetensors")
