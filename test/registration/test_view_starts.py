"""Where a registration begins that has no initial pose: around the header's view, in a range, and what is said about it."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.range import load_range
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions, RegistrationResult
from fluoro_reg.registration.view_starts import SearchedViews, register_in_views
from fluoro_reg.xray.nominal_view import NominalView

DETECTOR = NominalView(primary_deg=-20.0, secondary_deg=8.0, source_to_patient_mm=720.0)  # of the true view, which is PA


@pytest.fixture(scope="module")
def registrar(world):
    return Registrar(world.volume)


@pytest.fixture(scope="module")
def truth(world):
    """A view whose focal spot is behind the patient, 4 degrees beside what the header states."""
    return view_pose(world.volume.centre_patient, 160.0 + 4.0, -8.0 + 3.0, 2.0, 700.0)


def error_mm(registrar, result, truth):
    return registrar.displacement_mm(result.camera_from_patient, truth)


def test_the_header_narrows_the_search_and_is_not_the_pose(world, registrar, truth):
    xray = replace(world.xray(pose=truth), nominal_view=DETECTOR)
    wide, near = registrar.register(replace(xray, nominal_view=None)), registrar.register(xray)
    assert (wide.start, wide.start_detail) == ("range", "the views ap-pa")
    assert near.start == "header" and "angles -20 and 8 deg of the header" in near.start_detail
    for result in (wide, near):
        assert result.accepted, result.reason
        assert error_mm(registrar, result, truth) < 1.0
    assert near.to_json()["start"] == "header"


def test_a_header_leads_to_views_outside_the_default_range(world, registrar):
    truth = view_pose(world.volume.centre_patient, 93.0, 2.0, 0.0, 700.0)
    result = registrar.register(replace(world.xray(pose=truth), nominal_view=NominalView(-90.0, 0.0)))
    assert (result.start, result.accepted) == ("header", True), result.reason
    assert error_mm(registrar, result, truth) < 1.0


def test_a_wrong_header_does_not_keep_the_pose_from_being_found(world, registrar, truth):
    result = registrar.register(replace(world.xray(pose=truth), nominal_view=NominalView(45.0, -20.0)))
    assert result.accepted and error_mm(registrar, result, truth) < 1.0
    assert result.start == "range" and "nothing was accepted within 15 deg of the angles 45 and -20" in result.start_detail


def test_a_given_range_is_not_left_and_the_conflict_is_said(world, truth):
    registrar = Registrar(world.volume, from_mapping(RegistrationOptions, {"initial": {"view": "lateral-left"}}))
    result = registrar.register(replace(world.xray(pose=truth), nominal_view=DETECTOR))
    assert not result.accepted
    assert (result.start, result.start_detail) == (
        "range",
        "the views lateral-left, which do not include the angles -20 and 8 deg of the header",
    )


def test_a_given_pose_comes_first(world, registrar, truth):
    result = registrar.register(replace(world.xray(pose=truth), nominal_view=NominalView(45.0, 0.0)), truth)
    assert (result.start, result.start_detail) == ("pose", "") and result.accepted


def test_an_unusable_image_is_not_searched_twice(world, registrar):
    blank = replace(world.xray(), pixels=torch.full((128, 128), 7.0), nominal_view=DETECTOR)
    result = registrar.register(blank)
    assert result.outcome is Outcome.REJECTED_IMAGE and result.start == "header"


def searched(near, wide):
    """The result where a search around the header's view gives one result and that of the range another, and the calls."""
    calls = []

    def register(parts, thorough_too):
        calls.append((bool(parts), thorough_too))
        return near if parts else wide

    views = SearchedViews(load_range("ap-pa"), "ap-pa", is_given=False)
    return register_in_views(views, NominalView(20.0, 0.0), register), calls


def result_of(outcome, stands_out=False):
    return RegistrationResult(outcome, "", "lm", RigidTransform.identity(), stands_out=stands_out, elapsed_s=1.0, n_renders=10)


REJECTED = Outcome.REJECTED_POSE


@pytest.mark.parametrize(
    ("near", "wide", "start"),
    [
        (result_of(Outcome.CONVERGED), result_of(REJECTED, stands_out=True), "header"),
        (result_of(REJECTED), result_of(REJECTED, stands_out=True), "range"),
        (result_of(REJECTED), result_of(REJECTED), "header"),
        (result_of(REJECTED), result_of(Outcome.CONVERGED), "range"),
        (result_of(REJECTED, stands_out=True), result_of(REJECTED, stands_out=True), "header"),
        (result_of(REJECTED, stands_out=True), result_of(Outcome.CONVERGED), "range"),
        (result_of(REJECTED, stands_out=True), result_of(Outcome.AMBIGUOUS), "range"),
        (replace(result_of(Outcome.NOT_CONVERGED), camera_from_patient=None), result_of(REJECTED), "range"),
    ],
)
def test_without_an_answer_the_pose_near_the_header_is_the_result_unless_only_that_of_the_range_stands_out(near, wide, start):
    result, calls = searched(near, wide)
    assert result.start == start and result.outcome is (near if start == "header" else wide).outcome
    assert calls[0] == (True, True) and calls[1:] in ([], [(False, not near.stands_out)])
    assert (result.elapsed_s, result.n_renders) == (len(calls), 10 * len(calls))
