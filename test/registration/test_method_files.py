"""Methods are files that users may add: a file that is not a method is refused with a reason."""

import pytest

from fluoro_reg.errors import InputError
from fluoro_reg.optimisers import Adam, LevenbergMarquardt, Schedule
from fluoro_reg.registration import method as methods
from fluoro_reg.similarity import GMNCC, NCC


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("description: none", "needs 'stages'"),
        ("stages: []", "needs 'stages'"),
        ("stages: [64]", "needs 'stages'"),
        ("stages: [{optimiser: {name: [lm]}}]", "stage 0: 'optimiser' must be one of"),
        ("stages: [{similarity: [ncc]}]", "stage 0: 'similarity' must be one of"),
        ("stages: [{object_px: 64}]\nneeds: 0", "'needs' must be a list of start, weights, similarity"),
        ("stages: [{object_px: 64}]\nneeds: [[start]]", "'needs' must be a list of start, weights, similarity"),
        ("stages: [{object_px: 64}]\nneeds: [wights]", "'needs' must be a list of start, weights, similarity"),
        ("stages: [{object_px: 64}]\nsearch: 3", "needs 'stages'"),
        ("stages: [{object: 64}]", "stage 0: unknown key 'object'"),
        ("stages: [{object_px: 64}]\nstage: 1", "unknown key 'stage'"),
        ("stages: [{similarity: best}]", "stage 0: 'similarity' must be one of gmncc, .*, got 'best'"),
        ("stages: [{similarity: {patch: 9}}]", "stage 0: 'similarity' must be one of gmncc, .*, got None"),
        (
            "stages: [{similarity: {name: patch-ncc, pach: 9}}]",
            "'similarity': unknown key 'pach'; did you mean 'patch'",
        ),
        ("stages: [{optimiser: newton}]", "stage 0: 'optimiser' must be one of adam, .*, lm, got 'newton'"),
        ("stages: [{optimiser: {name: lm, iterations: 0}}]", "stage 0: 'optimiser': 'iterations' must lie in 1 to 1000, got 0"),
        (
            "stages: [{optimiser: lm}, {similarity: gmncc}]",
            "mine.yaml, stage 1: lm needs a similarity with residuals, one",
        ),
        ("stages: [{similarity: mutual-information}]", "stage 0: lm needs a similarity with residuals, one of .*, spherical"),
        (
            "stages: [{similarity: prost, optimiser: adam, sparse: {count: 9}}]",
            "stage 0: 'sparse' and 'restraint' cannot be used with lm or learned",
        ),
        ("stages: [{sparse: {count: 9}}]", "stage 0: 'sparse' and 'restraint' cannot be used with lm or learned"),
        ("stages: [{restraint: {weight: 0.1}}]", "stage 0: 'sparse' and 'restraint' cannot be used with lm or learned"),
    ],
)
def test_a_file_that_is_not_a_method_is_refused_with_a_reason(tmp_path, monkeypatch, content, sentence):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.yaml").write_text(content)
    monkeypatch.setattr(methods, "config_folder", lambda: tmp_path)
    with pytest.raises(InputError, match=sentence):
        methods.load_method("mine")


def test_settings_reach_the_similarity_and_the_optimiser(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    stage = "{object_px: 50, similarity: {name: gmncc, grey: 0.3}, optimiser: {name: adam, schedule: {steps: 7}}, keep: 2}"
    (tmp_path / "methods" / "mine.yaml").write_text(f"stages: [{stage}, {{similarity: ncc}}]")
    monkeypatch.setattr(methods, "config_folder", lambda: tmp_path)
    first, second = methods.load_method("mine").stages
    assert (first.object_px, first.keep, first.similarity, first.optimiser) == (
        50,
        2,
        GMNCC(grey=0.3),
        Adam(schedule=Schedule(steps=7)),
    )
    assert (second.similarity, second.optimiser) == (NCC(), LevenbergMarquardt())


def test_a_method_with_a_learned_similarity_needs_its_weights(tmp_path, monkeypatch):
    (tmp_path / "methods").mkdir()
    stages = "[{similarity: spherical}, {similarity: prost, optimiser: adam}, {similarity: spherical, optimiser: adam}, {}]"
    (tmp_path / "methods" / "mine.yaml").write_text(f"stages: {stages}")
    monkeypatch.setattr(methods, "config_folder", lambda: tmp_path)
    mine = methods.load_method("mine")
    assert (mine.needs, mine.learned) == (("start", "similarity"), ("spherical", "prost"))
    assert "--kind prost" in str(methods.missing_weights(mine, "", {"spherical": "w"}))
    assert methods.missing_weights(mine, "", {"spherical": "w", "prost": "v"}) is None
