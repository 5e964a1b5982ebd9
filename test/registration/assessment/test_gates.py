"""Each gate alone rejects a pose; no other gate can overrule it."""

from dataclasses import replace

import pytest

from fluoro_reg.registration.assessment.gates import Evidence, check_gates
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
