"""Weights files of learned similarities: they can be loaded again, and foreign, damaged or wrong ones are refused."""

import dataclasses

import pytest
import torch
from helpers.weights_files import header_of, with_changes
from safetensors.torch import load_file

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import LearnedProblem, load_similarity, save_similarity, similarity_kind
from fluoro_reg.regressor import load_regressor


@pytest.fixture
def weights(prost, volume, tmp_path):
    path = tmp_path / "s.safetensors"
    prost.scale.fill_(0.37)
    save_similarity(path, prost, volume.fingerprint, {"validation": {"rotation_cosine": 0.9}})
    return path


def test_a_loaded_similarity_has_the_same_values(prost, volume, reference, weights):
    loaded = load_similarity(weights, volume)
    images = torch.randn(1, 1, 16, 16)
    pose = RigidTransform.stack([reference.camera_from_patient])
    expected, found = (LearnedProblem(n, n.make_projector(), n.embed_fixed(images)).values_at(pose) for n in (prost, loaded))
    torch.testing.assert_close(found, expected.detach())
    assert loaded.options == prost.options and loaded.reference.intrinsics == reference.intrinsics
    assert not found.requires_grad and similarity_kind(weights) == "prost"
    assert header_of(weights)["notes"]["validation"]["rotation_cosine"] == 0.9
    assert not [name for name in load_file(weights) if "bone" in name], "the CT is not among the weights"


def test_another_ct_is_refused(volume, weights):
    with pytest.raises(InputError, match=r"trained on another CT.*'fluoro-reg train similarity'"):
        load_similarity(weights, dataclasses.replace(volume, fingerprint="0" * 64))


@pytest.mark.parametrize(
    ("header", "tensors", "sentence"),
    [
        ({"version": 2}, {}, "format version 2, but this program reads 3; train again"),
        ({"similarity": "best"}, {}, "a similarity that this program does not know"),
        ({"network": {"image": 3}}, {}, "unknown key 'image'"),
        ({"reference": {}}, {}, "lacks the reference view"),
        ({}, {"scale": torch.tensor(torch.nan)}, "NaN"),
        ({}, {"another": torch.ones(2)}, "does not hold the weights"),
    ],
)
def test_a_wrong_file_is_refused_with_advice(volume, weights, header, tensors, sentence):
    path = with_changes(weights, header, tensors)
    with pytest.raises(InputError, match=sentence):
        load_similarity(path, volume)


def test_a_similarity_cannot_be_loaded_as_a_regressor(volume, weights):
    with pytest.raises(InputError, match="was not written by this program as weights of a pose regressor"):
        load_regressor(weights, volume)
