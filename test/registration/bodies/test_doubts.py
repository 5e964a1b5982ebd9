"""A body that hangs on one whose place is in doubt is in doubt as well."""

import pytest

from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.alone import AloneSolver
from fluoro_reg.registration.bodies.doubts import Doubts
from fluoro_reg.registration.bodies.places import PlaceCheck
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.bodies.swap import SwapCheck
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Outcome, RegistrationResult

NUMBERS = {"L5": 27, "L4": 28, "L3": 29}


@pytest.fixture(scope="module")
def chain(patient):
    """Pelvis and three vertebrae, each of which hangs on the one below."""
    bodies = {"pelvis": {}, "femur_left": {"labels": ["femur_left"], "joint": {"sd_mm": 3, "sd_deg": 8}}}
    for (name, number), parent in zip(NUMBERS.items(), ("pelvis", "L5", "L4"), strict=True):
        bodies[name] = {"labels": [number], "joint": {"sd_mm": 2, "sd_deg": 3, "parent": parent}}
    config = bodies_from_mapping({"reference": "pelvis", "bodies": bodies}, "bodies")
    return BodiesRegistrar(patient.ct, config, patient.labels).bodies


@pytest.fixture
def settle(chain, monkeypatch):
    """Settle results of some outcomes, with the distances of other places, and count the places that are sought."""

    def run(outcomes, away_mm, new=("femur_left", "L5", "L4", "L3"), pixels=1000.0, swapped=None):
        sought = []
        monkeypatch.setattr(
            PlaceCheck, "another_place_mm", lambda _, body, poses: sought.append(body.name) or away_mm.get(body.name)
        )
        monkeypatch.setattr(SwapCheck, "swapped_with", lambda *_: swapped or {})
        results = {}
        for body in chain:
            outcome, pose = outcomes.get(body.name, Outcome.CONVERGED), RigidTransform.identity()
            results[body.name] = RegistrationResult(outcome, "", "", camera_from_patient=pose, scores={"pixels": pixels})
        accepted = [body for body in chain if body.name in new and results[body.name].accepted]
        doubts = Doubts(AloneSolver(chain, (), 4.0, 0), GateOptions())
        return doubts.settle(accepted, results, {}, {}), sought

    return run


def accepted(results):
    return {name for name, result in results.items() if result.accepted}


def test_without_doubt_all_stay_accepted(settle):
    results, sought = settle({}, {})
    assert accepted(results) == {"pelvis", "femur_left", "L5", "L4", "L3"}
    assert sorted(sought) == ["L3", "L4", "L5", "femur_left"]


def test_all_that_hangs_on_a_body_with_another_place_is_ambiguous(settle):
    results, _ = settle({}, {"L5": 30.0})
    assert accepted(results) == {"pelvis", "femur_left"}
    assert "another place, 30 mm away" in results["L5"].reason
    assert "its parent L5 may be at the wrong place" in results["L4"].reason
    assert results["L3"].outcome is Outcome.AMBIGUOUS and "its parent L4" in results["L3"].reason


def test_a_rejected_body_that_has_another_place_speaks_against_those_that_hang_on_it(settle):
    rejected = {"L5": Outcome.REJECTED_POSE, "L4": Outcome.REJECTED_POSE}
    results, sought = settle(rejected, {"L5": 30.0})
    assert accepted(results) == {"pelvis", "femur_left"}
    assert "L5" in sought and results["L5"].outcome is Outcome.REJECTED_POSE
    results, _ = settle(rejected, {})
    assert accepted(results) == {"pelvis", "femur_left", "L3"}


def test_a_parent_out_of_the_field_tells_nothing(settle):
    results, sought = settle({"L5": Outcome.REJECTED_POSE}, {"L5": 30.0}, pixels=0.0)
    assert "L5" not in sought
    assert accepted(results) == {"pelvis", "femur_left", "L4", "L3"}


def test_a_body_that_earlier_images_confirmed_holds_what_hangs_on_it(settle):
    results, _ = settle({"L5": Outcome.REJECTED_POSE}, {"L5": 30.0}, new=("L3",))
    assert accepted(results) == {"pelvis", "femur_left", "L4", "L3"}


def test_what_hangs_on_a_swapped_body_is_ambiguous(settle):
    results, _ = settle({}, {}, swapped={"L5": "L4", "L4": "L5"})
    assert accepted(results) == {"pelvis", "femur_left"}
    assert "at the place of L4, and L4 here" in results["L5"].reason
    assert "its parent L4" in results["L3"].reason
