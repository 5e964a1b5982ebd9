"""Weights files of the regressor: they can be loaded again, and foreign, damaged or wrong ones are refused."""

import dataclasses

import pytest
import torch
from helpers.weights_files import header_of, with_changes
from safetensors.torch import load_file, save_file

from fluoro_reg.errors import InputError
from fluoro_reg.networks.safetensors_file import write_tensors
from fluoro_reg.regressor import load_regressor, save_regressor


@pytest.fixture
def weights(network, volume, tmp_path):
    path = tmp_path / "w.safetensors"
    save_regressor(path, network, volume.fingerprint, {"validation": {"mtre_mm": 7.5}})
    return path


def test_a_saved_network_is_loaded_with_everything_it_needs(network, volume, weights):
    loaded = load_regressor(weights, volume)
    images = torch.randn(2, 1, 32, 32)
    expected, found = network(images).camera_from_patient, loaded(images).camera_from_patient
    torch.testing.assert_close(found.matrix(), expected.matrix(), atol=0.5, rtol=1e-3)  # half precision
    assert loaded.options == network.options and loaded.reference.intrinsics == network.reference.intrinsics
    torch.testing.assert_close(loaded.reference.pivot, network.reference.pivot)
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    assert header_of(weights)["notes"]["validation"]["mtre_mm"] == 7.5
    assert [path.name for path in weights.parent.iterdir()] == ["w.safetensors"]


def test_another_ct_is_refused(volume, weights):
    with pytest.raises(InputError, match="trained on another CT"):
        load_regressor(weights, dataclasses.replace(volume, fingerprint="0" * 64))


def test_a_later_version_is_refused(volume, weights):
    with pytest.raises(InputError, match="format version 2, but this program reads 1"):
        load_regressor(with_changes(weights, {"version": 2}), volume)


def test_unknown_settings_of_the_network_are_refused(volume, weights):
    with pytest.raises(InputError, match="backbone"):
        load_regressor(with_changes(weights, {"network": {"backbone": "resnet9000"}}), volume)
    with pytest.raises(InputError, match="lacks the reference view"):
        load_regressor(with_changes(weights, {"reference": {}}), volume)


def test_truncated_foreign_missing_and_pickled_files_are_refused(volume, weights, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:-1000])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(3)}, foreign)
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"x": torch.zeros(3)}, pickled)
    for path, message in (
        (broken, "not a complete safetensors file"),
        (foreign, "was not written by this program"),
        (pickled, "is a pickle"),
        (tmp_path / "none.safetensors", "cannot read none.safetensors"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(InputError, match=message) as refusal:
            load_regressor(path, volume)
        assert str(tmp_path) not in str(refusal.value)


def test_a_header_length_that_looks_like_a_pickle_is_accepted(volume, weights, tmp_path):
    """The file begins with the length of the header; lengths of 128 modulo 256 begin with the byte 0x80, as pickles do."""
    path = tmp_path / "collision.safetensors"
    for padding in range(0, 256, 8):
        write_tensors(path, load_file(weights), header_of(weights) | {"notes": {"text": "x" * padding}})
        if path.read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no header of such a length was made")
    load_regressor(path, volume)


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(volume, weights, tmp_path):
    tensors = load_file(weights)
    fewer = dict(list(tensors.items())[1:])
    write_tensors(tmp_path / "fewer.safetensors", fewer, header_of(weights))
    with pytest.raises(InputError, match="does not hold the weights"):
        load_regressor(tmp_path / "fewer.safetensors", volume)
    tensors["pose_numbers.bias"][0] = float("nan")
    write_tensors(tmp_path / "nan.safetensors", tensors, header_of(weights))
    with pytest.raises(InputError, match="NaN"):
        load_regressor(tmp_path / "nan.safetensors", volume)
