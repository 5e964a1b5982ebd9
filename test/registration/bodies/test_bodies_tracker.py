"""Bodies in a stream of images: followed from where they were accepted, searched again where they were not."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions, Tracker
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.bodies.tracker import LONGEST_PAUSE, MAXIMUM_STEP_MM, BodiesTracker, FollowedBody
from fluoro_reg.registration.options import TrackingOptions
from fluoro_reg.registration.result import Outcome
from fluoro_reg.registration.tracker import LOST_AFTER
from fluoro_reg.xray.view import CalibratedXray

FRAME_NS = 66_666_667
TWISTS = {"femur_left": (2.0, -1.0, 1.0, 9.0, 3.0, -4.0), "L5": (1.0, 0.5, -1.0, 3.0, -2.0, 2.0)}


@pytest.fixture(scope="module")
def frames(patient):
    """A C-arm that moves while the left femur turns: views, true poses and X-rays."""
    result = []
    for n in range(3):
        view = patient.view(shift=(50.0 + 2.0 * n, 0.0, -25.0), primary_deg=6.0 + 0.5 * n)
        twists = {name: tuple(value * (1 + 0.1 * n) for value in twist) for name, twist in TWISTS.items()}
        moved = patient.moved(view, twists)
        result.append((view, moved, patient.xray(view, moved)))
    return result


@pytest.fixture
def tracker(registrar, frames):
    return BodiesTracker(registrar, frames[0][0])


def in_plane_mm(patient, name, found, true):
    return target_registration_errors(found, true, patient.points(name)).in_plane_mm


def test_bodies_are_followed_with_far_fewer_images_than_they_are_found(patient, tracker, frames):
    results = [tracker.update(xray, n * FRAME_NS) for n, (_, _, xray) in enumerate(frames)]
    for (view, moved, _), result in zip(frames, results, strict=True):
        assert result.accepted, result.reason
        femur = result.bodies["femur_left"]
        assert femur.accepted, femur.reason
        assert in_plane_mm(patient, "femur_left", femur.camera_from_patient, moved["femur_left"]) < 1.0
        assert in_plane_mm(patient, "pelvis", result.camera_from_patient, view) < 1.0
    assert results[1].n_renders < results[0].n_renders / 5
    assert {result.state for result in results} == {"tracking"}
    assert results[1].bodies["L5"].state == "tracking"


def test_no_body_is_accepted_in_a_frame_without_the_reference(tracker, frames):
    tracker.update(frames[0][2], 0)
    xray = frames[1][2]
    dark = replace(xray, pixels=torch.full_like(xray.pixels, 3.0))
    result = tracker.update(dark, FRAME_NS)
    assert not result.accepted
    assert set(result.bodies) == {"pelvis", "femur_left", "femur_right", "L5"}
    assert {body.outcome for body in result.bodies.values()} == {Outcome.REJECTED_IMAGE}
    assert all(body.camera_from_patient is None for body in result.bodies.values())
    assert tracker.update(frames[1][2], 2 * FRAME_NS).bodies["femur_left"].accepted


def test_a_body_that_jumps_against_the_reference_is_rejected(tracker, frames):
    xray = frames[0][2]
    found = tracker.update(xray, 0)
    femur, followed = found.bodies["femur_left"], tracker._followed["femur_left"]
    away = torch.tensor([MAXIMUM_STEP_MM + 5.0, 0.0, 0.0], dtype=torch.float64)
    last = followed.reference_from_body
    followed.reference_from_body = RigidTransform(last.rotation, last.translation + away)
    body = next(body for body in tracker.registrar.bodies if body.name == "femur_left")
    result = tracker._followed_result(body, femur, found)
    assert result.outcome is Outcome.REJECTED_POSE
    assert "it would have moved" in result.reason
    assert followed.unaccepted == 1


def test_reset_forgets_all_bodies(tracker, frames):
    tracker.update(frames[0][2], 0)
    assert tracker._followed["femur_left"].reference_from_body is not None
    assert tracker._rigid_from_reference is not None
    tracker.reset()
    assert all(body.is_due for body in tracker._followed.values())
    assert tracker._rigid_from_reference is None


def test_the_reference_begins_where_the_other_bodies_put_it_in_the_last_frame(registrar, frames):
    result, view = (
        registrar.rigid.register(frames[0][2], frames[0][0]),
        [CalibratedXray(frames[0][2], RigidTransform.identity())],
    )
    off = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([0.5, -0.3, 0.0], dtype=torch.float64))
    begun = replace(result, camera_from_patient=result.camera_from_patient @ off.inverse())
    plain = registrar.with_bodies(result, view, sought=())
    corrected = registrar.with_bodies(begun, view, {"pelvis": off}, sought=())
    assert torch.allclose(plain.camera_from_patient.matrix(), corrected.camera_from_patient.matrix(), atol=1e-6)


def test_a_reading_that_applies_is_not_sought_again(tracker, frames, monkeypatch):
    tracker.update(frames[0][2], 0)
    monkeypatch.setattr(
        "fluoro_reg.registration.bodies.registrar.preprocess_readings", lambda *_: pytest.fail("all readings were sought")
    )
    assert tracker.update(frames[1][2], FRAME_NS).bodies["femur_left"].accepted


def test_one_body_is_tracked_as_any_ct(patient, frames):
    config = bodies_from_mapping({"reference": "patient", "bodies": {"patient": {}}}, "bodies.yaml")
    alone = BodiesTracker(BodiesRegistrar(patient.ct, config), frames[0][0])
    rigid = Tracker(Registrar(patient.ct), frames[0][0])
    for n, (_, _, xray) in enumerate(frames[:2]):
        ours, theirs = alone.update(xray, n * FRAME_NS), rigid.update(xray, n * FRAME_NS)
        assert torch.equal(ours.camera_from_patient.matrix(), theirs.camera_from_patient.matrix())
        assert list(ours.bodies) == ["patient"]
        assert ours.n_renders == theirs.n_renders


def test_filtered_poses_are_refused(patient):
    options = RegistrationOptions(tracking=TrackingOptions(pose="filtered"))
    with pytest.raises(InputError, match=r"tracking\.pose is filtered"):
        BodiesTracker(BodiesRegistrar(patient.ct, patient.config, patient.labels, options=options))


def test_a_body_that_is_not_found_is_searched_less_and_less_often():
    body, searched = FollowedBody(), []
    for frame in range(100):
        if body.is_due:
            searched.append(frame)
        body.reject()
    pauses = [later - earlier for earlier, later in pairwise(searched)]
    assert pauses[:4] == [2, 3, 5, 9]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE + 1


def test_a_body_that_was_lost_is_searched_again():
    body = FollowedBody()
    body.accept(RigidTransform.identity())
    for _ in range(LOST_AFTER - 1):
        body.reject()
        assert not body.is_due
    body.reject()
    assert body.is_due
    body.accept(RigidTransform.identity())
    assert body.unaccepted == 0
