"""`fluoro-reg train`: short trainings whose weights `register` can use, and errors."""

import json

import pytest

from fluoro_reg.cli.train import SimilarityKind, seconds_of
from fluoro_reg.errors import InputError
from fluoro_reg.learned import LEARNED_SIMILARITIES
from fluoro_reg.training.similarity import SimilarityTraining

SMALL = [
    argument
    for setting in ("steps=6", "batch=4", "validations=2", "validation_images=8", "network.image_px=32")
    for argument in ("--set", setting)
]


def test_a_regressor_is_trained_and_used(cli, view, tmp_path):
    carm, out = tmp_path / "carm.yaml", tmp_path / "w.safetensors"
    carm.write_text("views: [AP]\nprimary_deg: [-10, 10]\nsource_to_object_mm: [700, 800]\n")
    trained = cli("train", "regressor", "--ct", view.ct, "--range", carm, "--out", out, *SMALL, "--json")
    assert trained.status == 0, trained.err
    answer = trained.json()
    assert answer["steps"] == 6 and answer["mtre_mm"] > 0 and answer["bytes"] == out.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["carm.yaml", "w.png", "w.safetensors"]
    arguments = view.arguments(initial=None, model=out, method="regressor-lm")
    found = cli("register", *arguments, "--intensity", "attenuation", "--json")
    assert found.status in (0, 1), found.err  # six steps do not train a usable regressor
    assert found.json()["initial_camera_from_patient"] is not None


TINY = [
    argument
    for setting in ("steps=10", "batch=12", "average=0.5", "validations=2", "validation_images=16", "pairs.around=middle")
    for argument in ("--set", setting)
]
NETWORK = {
    "prost": ["--set", "prost.image_px=16", "--set", "prost.samples=8", "--set", "prost.encoder_channels=[8, 8]"],
    "spherical": ["--set", "spherical.image_px=16", "--set", "spherical.width=16", "--set", "spherical.metric=so4"],
}


@pytest.fixture(scope="module")
def similarities(tmp_path_factory):
    return tmp_path_factory.mktemp("similarities")


@pytest.mark.parametrize(("kind", "method"), [("prost", "prost"), ("spherical", "spherical-lm")])
def test_a_similarity_is_trained_and_used(cli, view, similarities, kind, method, monkeypatch):
    monkeypatch.setattr(SimilarityTraining, "mean_decrease", lambda training: 1.0)  # in so few steps the value may not decrease
    out = similarities / f"{kind}.safetensors"
    trained = cli("train", "similarity", "--kind", kind, "--ct", view.ct, "--out", out, *TINY, *NETWORK[kind], "--json")
    assert trained.status == 0, trained.err
    answer = trained.json()
    assert answer["steps"] == 10 and -1 <= answer["rotation_cosine"] <= 1 and answer["bytes"] == out.stat().st_size
    assert {path.name for path in similarities.iterdir()} >= {f"{kind}.png", f"{kind}.safetensors"}
    found = cli("register", *view.arguments(similarity=out, method=method), "--intensity", "attenuation", "--json")
    assert found.status in (0, 1), found.err  # ten steps do not train a usable similarity
    assert found.json()["method"] == method and found.json()["n_renders"] > 10


def test_weights_of_the_wrong_similarity_are_an_error_before_the_ct_is_read(cli, view, similarities):
    prost, spherical = (similarities / f"{kind}.safetensors" for kind in NETWORK)
    ct = view.arguments(method="spherical-lm", ct="nowhere")

    def refused(*arguments) -> str:
        answer = cli("register", *ct, *arguments, "--json")
        assert answer.status == 2 and answer.out == "" and answer.err.count("\n") == 1
        return answer.err

    assert "give them with --similarity W.safetensors (setting learned.spherical)" in refused("--similarity", prost)
    assert "are both weights of prost" in refused("--similarity", prost, "--similarity", prost)
    assert "holds weights of the similarity prost, not of spherical" in refused("--set", f"learned.spherical={prost}")
    assert "nowhere" in refused("--similarity", spherical, "--similarity", prost)


def test_the_kinds_are_all_learned_similarities():
    assert [kind.value for kind in SimilarityKind] == list(LEARNED_SIMILARITIES)


def test_an_unknown_key_of_the_range_is_an_error(cli, view, tmp_path):
    carm = tmp_path / "carm.yaml"
    carm.write_text("primary: [0, 10]\n")
    refused = cli("train", "regressor", "--ct", view.ct, "--range", carm, "--out", tmp_path / "w.safetensors")
    assert refused.status == 2 and refused.out == ""
    assert "carm.yaml: unknown key 'primary'; did you mean 'primary_deg'?" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "soon"], "--budget takes a time such as 60s, 5min or 2h"),
        (["--device", "cuda"], "no CUDA device was found"),
        (["--set", "network.head=euler"], "network.head"),
        (["--resume"], "there is no w.resume.safetensors"),
        (["--out", "w.pth"], "must end in .safetensors"),
    ],
)
def test_wrong_arguments_are_an_error_in_one_sentence(cli, view, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = ["--ct", view.ct, "--out", tmp_path / "w.safetensors", *SMALL, *arguments]
    refused = cli("train", "regressor", *arguments)
    assert refused.status == 2 and refused.out == ""
    assert message in refused.err and refused.err.count("\n") == 1


def test_a_training_can_start_from_weights_of_several_cts(cli, view, tmp_path):
    several, out = tmp_path / "several.safetensors", tmp_path / "w.safetensors"
    assert cli("train", "regressor", "--ct", view.ct, "--ct", view.ct, "--out", several, *SMALL, "--json").status == 0
    refused = cli("register", *view.arguments(model=several), "--json")
    assert refused.status == 2 and "trained on several CTs" in refused.err
    trained = cli("train", "regressor", "--ct", view.ct, "--pretrained", several, "--out", out, *SMALL, "--json")
    assert trained.status == 0, trained.err
    refused = cli("train", "regressor", "--ct", view.ct, "--ct", view.ct, "--series", "1", "--out", out, *SMALL)
    assert refused.status == 2 and "--series applies to a single CT" in refused.err


def test_weights_of_another_ct_are_an_error(cli, view, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    out = tmp_path / "w.safetensors"
    assert cli("train", "regressor", "--ct", view.ct, "--out", out, *SMALL, "--json").status == 0
    with safe_open(out, "np") as file:
        header = json.loads(file.metadata()["fluoro_reg"])
    save_file(load_file(out), out, metadata={"fluoro_reg": json.dumps(header | {"ct_fingerprint": "0" * 64})})
    refused = cli("register", *view.arguments(model=out), "--json")
    assert refused.status == 2 and refused.out == "" and "trained on another CT" in refused.err


def test_a_budget_is_a_time_with_a_unit():
    assert [seconds_of(text) for text in ("90", "90s", "1.5min", "2 h")] == [90, 90, 90, 7200]
    for text in ("0s", "-3s", "5 days", ""):
        with pytest.raises(InputError, match="such as 60s"):
            seconds_of(text)
