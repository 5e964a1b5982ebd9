"""Weights of a learned similarity come back as they were; what is not ours, not whole or not of this CT is refused."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import LearnedProblem, load_similarity, save_similarity, similarity_kind
from fluoro_reg.networks.safetensors_file import write_tensors
from fluoro_reg.regressor import load_regressor


@pytest.fixture
def weights(prost, volume, tmp_path):
    path = tmp_path / "s.safetensors"
    prost.scale.fill_(0.37)
    save_similarity(path, prost, volume.fingerprint, {"validation": {"rotation_cosine": 0.9}})
    return path


def header_of(path) -> dict:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["fluoro_reg"])


def test_the_same_values_come_back(prost, volume, reference, weights):
    again = load_similarity(weights, volume)
    images = torch.randn(1, 1, 16, 16)
    pose = RigidTransform.stack([reference.camera_from_patient])
    expected, found = (LearnedProblem(n, n.projector(), n.fixed(images)).at(pose) for n in (prost, again))
    torch.testing.assert_close(found, expected.detach())
    assert again.options == prost.options and again.reference.intrinsics == reference.intrinsics
    assert not found.requires_grad and similarity_kind(weights) == "prost"
    assert header_of(weights)["notes"]["validation"]["rotation_cosine"] == 0.9
    assert not [name for name in load_file(weights) if "bone" in name], "the CT is not among the weights"


def test_another_ct_is_refused(volume, weights):
    with pytest.raises(InputError, match=r"trained on another CT.*'fluoro-reg train similarity'"):
        load_similarity(weights, dataclasses.replace(volume, fingerprint="0" * 64))


@pytest.mark.parametrize(
    ("header", "tensors", "sentence"),
    [
        ({"version": 1}, {}, "format version 1, this program reads 2"),
        ({"similarity": "best"}, {}, "a similarity that this program does not know"),
        ({"network": {"image": 3}}, {}, "unknown key 'image'"),
        ({"reference": {}}, {}, "lacks the view"),
        ({}, {"scale": torch.tensor(torch.nan)}, "NaN"),
        ({}, {"another": torch.ones(2)}, "does not hold the weights"),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence(volume, weights, header, tensors, sentence):
    path = weights.with_name("changed.safetensors")
    write_tensors(path, load_file(weights) | tensors, header_of(weights) | header)
    with pytest.raises(InputError, match=sentence):
        load_similarity(path, volume)


def test_weights_of_one_kind_are_not_taken_for_the_other(volume, weights):
    with pytest.raises(InputError, match="was not written by this program as weights of a pose regressor"):
        load_regressor(weights, volume)
