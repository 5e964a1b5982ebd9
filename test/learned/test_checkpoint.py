"""Weights files of learned similarities: they can be loaded again, and foreign, damaged or wrong ones are refused."""

import dataclasses

import pytest
import torch
from helpers.weights_files import header_of, with_changes
from safetensors.torch import load_file

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import to_mapping
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


def old_file(path, notes):
    """Write a file as versions before 4 did: without the views of the training, which were in the notes only."""
    header = {key: value for key, value in header_of(path).items() if key not in ("seen", "mirrors")}
    old = path.with_name("old.safetensors")
    write_tensors(old, load_file(path), header | {"version": 3, "notes": notes})
    return old


def notes_of_training(around, views):
    pairs = {"around": around, "rotation_deg": 9.45, "translation_mm": 22.4, "depth_mm": 30.0}
    return {"range": to_mapping(CarmRange(views=views)), "training": {"pairs": pairs}}


def test_weights_carry_the_views_of_their_training(prost, volume, tmp_path):
    prost.seen, path = CarmRange(views=("PA",), primary_deg=(-70, 20)), tmp_path / "s.safetensors"
    save_similarity(path, prost, volume.fingerprint, {})
    loaded = load_similarity(path, volume)
    assert loaded.seen == prost.seen and loaded.mirrors


def test_weights_from_before_are_read_with_the_views_of_their_pairs(volume, weights):
    """About the middle of the range was the default; views from behind were not mirrored where pairs followed the range."""
    loaded = load_similarity(old_file(weights, notes_of_training("middle", ("AP", "PA"))), volume)
    assert loaded.seen.views == ("AP",) and loaded.mirrors
    assert loaded.seen.primary_deg == pytest.approx((-18.9, 18.9))
    assert loaded.seen.source_to_object_mm == pytest.approx((640.0, 760.0))
    wide = load_similarity(old_file(weights, notes_of_training("range", ("AP", "PA"))), volume)
    assert wide.seen.primary_deg == pytest.approx((-63.9, 63.9)) and not wide.mirrors
    assert load_similarity(old_file(weights, notes_of_training("range", ("AP",))), volume).mirrors
    assert load_similarity(old_file(weights, {}), volume).seen is None


def test_another_ct_is_refused(volume, weights):
    with pytest.raises(InputError, match=r"trained on another CT.*'fluoro-reg train similarity'"):
        load_similarity(weights, dataclasses.replace(volume, fingerprint="0" * 64))


@pytest.mark.parametrize(
    ("header", "tensors", "sentence"),
    [
        ({"version": 2}, {}, "format version 2, but this program reads 4; train again"),
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
