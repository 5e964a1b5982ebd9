"""Each gate alone rejects a pose; no other gate can overrule it."""

from dataclasses import replace

import pytest

from fluoro_reg.registration.assessment.gates import Evidence, Support, check_gates, decoys_decide, is_above_decoys
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Outcome

GOOD = Evidence(
    similarity=0.8,
    patch_similarity=0.8,
    rival_similarity=0.5,
    pixels=5000,
    overlap=0.9,
    depth_mm=700.0,
    depth_sd_mm=2.0,
    outline_mm=0.5,
    turn_sd_deg=0.3,
    converged=True,
    compared="body",
)


def test_an_unknown_effect_of_the_outline_is_not_a_reason_to_reject():
    assert check_gates(replace(GOOD, outline_mm=None), GateOptions())[0] is Outcome.CONVERGED


def test_good_evidence_passes():
    assert check_gates(GOOD, GateOptions())[0] is Outcome.CONVERGED
    assert check_gates(replace(GOOD, rival_similarity=None), GateOptions())[0] is Outcome.CONVERGED


@pytest.mark.parametrize(
    ("change", "outcome", "sentence"),
    [
        ({"similarity": 0.3}, Outcome.REJECTED_POSE, "does not explain the image"),
        ({"similarity": float("nan")}, Outcome.REJECTED_POSE, "does not explain the image"),
        ({"patch_similarity": 0.6}, Outcome.REJECTED_POSE, "parts of the image"),
        ({"patch_similarity": float("nan")}, Outcome.REJECTED_POSE, "parts of the image"),
        ({"rival_similarity": 0.79}, Outcome.AMBIGUOUS, "another pose"),
        ({"rival_similarity": float("nan")}, Outcome.AMBIGUOUS, "another pose"),
        ({"pixels": 10}, Outcome.REJECTED_POSE, "pixels"),
        ({"overlap": 0.1}, Outcome.REJECTED_POSE, "only 10%"),
        ({"overlap": float("nan")}, Outcome.REJECTED_POSE, "can be compared"),
        ({"depth_mm": 20.0}, Outcome.REJECTED_POSE, "from the source"),
        ({"depth_mm": float("nan")}, Outcome.REJECTED_POSE, "from the source"),
        ({"depth_sd_mm": None}, Outcome.NOT_CONVERGED, "undetermined"),
        ({"depth_sd_mm": 80.0}, Outcome.NOT_CONVERGED, "undetermined"),
        ({"depth_sd_mm": float("nan")}, Outcome.NOT_CONVERGED, "undetermined"),
        ({"outline_mm": 6.0}, Outcome.REJECTED_POSE, "outline"),
        ({"outline_mm": float("inf")}, Outcome.REJECTED_POSE, "outline"),
        ({"outline_mm": float("nan")}, Outcome.REJECTED_POSE, "outline"),
        ({"turn_sd_deg": None}, Outcome.NOT_CONVERGED, "a rotation undetermined"),
        ({"turn_sd_deg": 9.0}, Outcome.NOT_CONVERGED, "a rotation undetermined"),
        ({"turn_sd_deg": float("nan")}, Outcome.NOT_CONVERGED, "a rotation undetermined"),
        ({"converged": False}, Outcome.NOT_CONVERGED, "ran out of steps"),
    ],
)
def test_each_gate_stops_a_pose_alone(change, outcome, sentence):
    found, reason = check_gates(replace(GOOD, **change), GateOptions())
    assert found is outcome
    assert sentence in reason


def test_an_object_needs_as_much_overlap_as_a_body():
    for compared in ("body", "object"):
        outcome, reason = check_gates(replace(GOOD, compared=compared, overlap=0.29), GateOptions())
        assert outcome is Outcome.REJECTED_POSE and "only 29%" in reason


def test_objects_and_bodies_have_thresholds_of_their_own():
    edges_only = replace(GOOD, similarity=0.65, patch_similarity=0.5, rival_similarity=None)
    spoilt_by_instruments = replace(GOOD, similarity=0.45, patch_similarity=0.8, rival_similarity=None)
    for evidence, compared, outcome in (
        (edges_only, "object", Outcome.CONVERGED),
        (edges_only, "body", Outcome.REJECTED_POSE),
        (spoilt_by_instruments, "object", Outcome.REJECTED_POSE),
        (spoilt_by_instruments, "body", Outcome.CONVERGED),
    ):
        assert check_gates(replace(evidence, compared=compared), GateOptions())[0] is outcome


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, Outcome.CONVERGED),
        ({"similarity": 0.43}, Outcome.REJECTED_POSE),
        ({"patch_similarity": 0.29}, Outcome.REJECTED_POSE),
        ({"overlap": 0.19}, Outcome.REJECTED_POSE),
        ({"rival_similarity": 0.44}, Outcome.AMBIGUOUS),
    ],
)
def test_bone_of_a_cut_ct_has_thresholds_of_its_own(change, outcome):
    bone = replace(GOOD, compared="bone", similarity=0.45, patch_similarity=0.31, overlap=0.25, rival_similarity=None)
    assert check_gates(replace(bone, **change), GateOptions())[0] is outcome


UNCERTAIN = replace(GOOD, similarity=0.3, patch_similarity=0.3, rival_similarity=None, compared="bone")


def outcome(evidence, **changes):
    return check_gates(replace(evidence, **changes), GateOptions())[0]


def test_an_uncertain_similarity_is_accepted_only_far_above_that_of_decoys():
    assert outcome(UNCERTAIN) is Outcome.REJECTED_POSE
    assert outcome(UNCERTAIN, decoy_similarity=0.15) is Outcome.CONVERGED
    rejected, reason = check_gates(replace(UNCERTAIN, decoy_similarity=0.2), GateOptions())
    assert rejected is Outcome.REJECTED_POSE
    assert "mirrored image" in reason


@pytest.mark.parametrize("decoy", [0.8, 0.95, float("nan")])
def test_a_certain_similarity_must_still_exceed_that_of_decoys(decoy):
    assert outcome(GOOD, decoy_similarity=0.79) is Outcome.CONVERGED
    assert outcome(GOOD, decoy_similarity=decoy) is Outcome.REJECTED_POSE


def test_what_is_similar_to_its_mirror_image_is_ambiguous_and_what_is_less_similar_is_rejected():
    implant = replace(GOOD, compared="object", similarity=0.7, patch_similarity=0.5, support=Support.NOTHING)
    assert outcome(implant, decoy_similarity=0.65) is Outcome.AMBIGUOUS
    assert outcome(implant, decoy_similarity=0.75) is Outcome.REJECTED_POSE
    assert outcome(implant, patch_similarity=0.4, decoy_similarity=0.65) is Outcome.REJECTED_POSE


@pytest.mark.parametrize("change", [{"similarity": 0.1}, {"patch_similarity": 0.1}, {"similarity": float("nan")}])
def test_decoys_cannot_help_a_similarity_that_is_too_low(change):
    assert outcome(UNCERTAIN, decoy_similarity=0.0, **change) is Outcome.REJECTED_POSE
    assert not decoys_decide(replace(UNCERTAIN, **change), GateOptions())


def test_decoys_do_not_lower_what_a_body_needs():
    assert outcome(UNCERTAIN, compared="body", decoy_similarity=0.0) is Outcome.REJECTED_POSE


def test_decoys_decide_only_where_every_other_gate_is_passed():
    assert decoys_decide(UNCERTAIN, GateOptions())
    assert not decoys_decide(replace(UNCERTAIN, converged=False), GateOptions())
    assert not decoys_decide(GOOD, GateOptions())  # accepted without them


def test_the_gain_over_decoys_is_one_of_evidence():
    """At small correlations the evidence grows with the square, at large ones without bound."""
    gate = GateOptions(minimum_decoy_gain=4.0)
    assert is_above_decoys(UNCERTAIN, 0.149, gate)
    assert not is_above_decoys(UNCERTAIN, 0.153, gate)
    assert is_above_decoys(UNCERTAIN, None, gate)


@pytest.mark.parametrize(
    ("compared", "support", "sufficient"),
    [
        ("body", Support.OTHER_IMAGES, True),
        ("body", Support.INITIAL_POSE, False),
        ("body", Support.NOTHING, False),
        ("object", Support.INITIAL_POSE, True),
        ("object", Support.NOTHING, False),
        ("bone", Support.INITIAL_POSE, True),
        ("bone", Support.NOTHING, False),
    ],
)
def test_what_is_sufficient_depends_on_what_else_supports_the_pose(compared, support, sufficient):
    evidence = replace(GOOD, similarity=0.7, compared=compared, support=support)
    assert (outcome(evidence) is Outcome.CONVERGED) is sufficient
    assert outcome(evidence, decoy_similarity=0.3) is Outcome.CONVERGED  # beside decoys that are explained badly
