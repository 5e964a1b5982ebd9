"""Two cameras of known relative geometry, frame after frame: one pose must fit both, and nothing else is accepted."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import se3
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions
from fluoro_reg.registration.tracking.states import TrackerState
from fluoro_reg.registration.views_tracker import ViewsTracker


@pytest.fixture(scope="module")
def registrar(world):
    return Registrar(world.volume, RegistrationOptions())


@pytest.fixture(scope="module")
def camera_from_first(world):
    return view_pose(world.volume.centre_patient, 60.0, 0.0, 0.0, 700.0) @ world.truth.inverse()


@pytest.fixture
def tracker(world, registrar, camera_from_first):
    return ViewsTracker(registrar, [camera_from_first], moved(world, 0, 6.0))


def moved(world, n, mm=1.0):
    """The pose of frame n: the patient moves by a few millimetres from frame to frame."""
    twist = torch.tensor([1.0, -0.6, 0.8, 0.002, 0.001, -0.002], dtype=torch.float64)
    return se3.retract(world.truth, (n + mm) * twist, world.volume.centre_patient)


def frame(world, camera_from_first, n):
    pose = moved(world, n)
    return [world.xray(pose=pose), world.xray(pose=camera_from_first @ pose)]


def mirrored(xray):
    return replace(xray, pixels=xray.pixels.flip(1))


def test_depth_is_followed_to_a_fraction_of_a_millimetre(world, tracker, camera_from_first):
    for n in range(3):
        result = tracker.update_views(frame(world, camera_from_first, n))
        assert result.accepted, result.reason
        assert result.state == "tracking"
        errors = target_registration_errors(result.camera_from_patient, moved(world, n), world.landmarks_patient)
        assert errors.depth_mm < 0.5
        assert errors.in_plane_mm < 0.5


def test_a_camera_that_moves_is_told_with_every_frame(world, registrar):
    tracker = ViewsTracker(registrar, [None], moved(world, 0, 6.0))
    for n, degrees in enumerate((60.0, 75.0)):
        camera = view_pose(world.volume.centre_patient, degrees, 0.0, 0.0, 700.0) @ world.truth.inverse()
        xrays = frame(world, camera, n)
        assert tracker.update_views(xrays).reason == "the poses of 2 cameras are needed, got 1"
        result = tracker.update_views(xrays, camera_from_first=[camera])
        assert result.accepted, result.reason
        errors = target_registration_errors(result.camera_from_patient, moved(world, n), world.landmarks_patient)
        assert errors.depth_mm < 0.5


def test_without_an_initial_pose_the_first_view_is_searched(world, registrar, camera_from_first):
    tracker = ViewsTracker(registrar, [camera_from_first])
    result = tracker.update_views(frame(world, camera_from_first, 0))
    assert result.accepted, result.reason
    assert target_registration_errors(result.camera_from_patient, moved(world, 0), world.landmarks_patient).mtre_mm < 1.0


def test_mirrored_views_agree_with_each_other_and_are_not_accepted(world, registrar, camera_from_first):
    """They look like views from behind. Nothing but an initial pose, or the mirror image, speaks against them."""
    tracker = ViewsTracker(registrar, [camera_from_first])
    assert not tracker.update_views([mirrored(xray) for xray in frame(world, camera_from_first, 0)]).accepted


def test_either_view_can_reject_the_pose(world, tracker, camera_from_first):
    first, second = frame(world, camera_from_first, 0)
    for n, pair in enumerate(([mirrored(first), second], [first, mirrored(second)])):
        result = tracker.update_views(pair)
        assert not result.accepted
        assert f"view {n + 1}" in result.reason or result.outcome is Outcome.AMBIGUOUS
    tracker.reset()
    blank = replace(second, pixels=torch.full_like(second.pixels, 100.0))
    assert "view 2" in tracker.update_views([first, blank]).reason


def test_frames_that_cannot_be_used_are_counted_until_the_patient_is_lost(world, tracker, camera_from_first):
    good = frame(world, camera_from_first, 0)
    assert tracker.update_views(good).accepted
    repeated = tracker.update_views([frame(world, camera_from_first, 1)[0], good[1]])
    assert repeated.outcome is Outcome.REJECTED_IMAGE
    assert repeated.reason.startswith("view 2: the image repeats the frame before")
    assert (repeated.frame, repeated.state) == ("repeated", "degraded")
    assert tracker.update(good[0]).reason == "2 X-rays of one moment are needed, got 1"
    for _ in range(2):
        tracker.update(good[0])
    unknown = tracker.reject("the second camera's pose is unknown")
    assert (unknown.outcome, unknown.reason) == (Outcome.REJECTED_IMAGE, "the second camera's pose is unknown")
    assert (unknown.accepted, unknown.state) == (False, "lost")
    assert tracker.state is TrackerState.LOST
    assert tracker.update_views(frame(world, camera_from_first, 2)).accepted
    tracker.reset()
    assert tracker.state is TrackerState.UNINITIALISED


def test_a_jump_is_not_believed_at_once(world, tracker, camera_from_first):
    assert tracker.update_views(frame(world, camera_from_first, 0)).accepted
    far = se3.retract(
        world.truth, torch.tensor([45.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), world.volume.centre_patient
    )
    pair = [world.xray(pose=far), world.xray(pose=camera_from_first @ far)]
    result = tracker.update_views(pair)
    assert not result.accepted


def test_filtered_poses_are_refused(world, camera_from_first):
    options = from_mapping(RegistrationOptions, {"tracking": {"pose": "filtered"}})
    with pytest.raises(InputError, match=r"tracking\.pose is filtered, but poses of two cameras rest on the images alone"):
        ViewsTracker(Registrar(world.volume, options), [camera_from_first])
