"""A body at its neighbour's place is found out by its own, and one that is right is not doubted."""

import pytest
import torch

from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.places import PlaceCheck
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.bodies.scene import SeenView
from fluoro_reg.registration.result import Outcome
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess


@pytest.fixture(scope="module")
def seen(patient):
    """An X-ray of the unmoved patient that shows L5 and L4, a registrar of pelvis and L5, and the check."""
    config = bodies_from_mapping(
        {"reference": "pelvis", "bodies": {"pelvis": {}, "L5": {"labels": [27], "joint": {"sd_mm": 2, "sd_deg": 3}}}}, "bodies"
    )
    registrar = BodiesRegistrar(patient.ct, config, patient.labels)
    view = patient.view(shift=(0.0, 0.0, 45.0))
    xray = patient.xray(view, {})
    prepared = SeenView(preprocess(xray, PreprocessOptions()), RigidTransform.identity())
    return view, xray, registrar, PlaceCheck(registrar.bodies, (prepared,), distinct_mm=4.0, seed=0, margin=0.02)


def test_a_vertebra_at_the_place_of_the_next_one_has_a_better_place(patient, seen):
    view, _, registrar, places = seen
    l5, l4 = ((patient.labels.labels == n).nonzero().flip(1).double() for n in (27, 28))
    up = patient.ct.points_patient(l4).mean(0) - patient.ct.points_patient(l5).mean(0)
    at_l4 = view @ RigidTransform(torch.eye(3, dtype=torch.float64), up)
    away_mm = places.another_place_mm(registrar.bodies[1], {"pelvis": view, "L5": at_l4})
    assert away_mm == pytest.approx(float(up.norm()), abs=8.0)


def test_a_vertebra_where_it_is_has_no_better_place(seen):
    view, _, registrar, places = seen
    assert places.another_place_mm(registrar.bodies[1], {"pelvis": view, "L5": view}) is None


def test_a_body_with_another_place_is_ambiguous_and_the_reference_stays(seen, monkeypatch):
    view, xray, registrar, _ = seen
    assert registrar.register(xray, view).bodies["L5"].accepted
    monkeypatch.setattr(PlaceCheck, "another_place_mm", lambda *_: 31.0)
    result = registrar.register(xray, view)
    assert result.accepted
    assert result.bodies["L5"].outcome is Outcome.AMBIGUOUS
    assert "another place, 31 mm away, explains the image as well" in result.bodies["L5"].reason
