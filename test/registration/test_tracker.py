"""The tracker: from the last accepted pose, never from a rejected one."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import se3
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions, Tracker
from fluoro_reg.registration.tracker import LOST_AFTER


@pytest.fixture
def tracker(world):
    generator = torch.Generator().manual_seed(0)
    start = perturb_to_mtre(world.truth, world.landmarks_patient, 8.0, world.volume.centre_patient, generator)
    return Tracker(Registrar(world.volume, RegistrationOptions()), start)


def _moved(world, mm):
    step = torch.tensor([mm, 0.0, 0.0, 0.0, 0.0, 0.02], dtype=torch.float64)
    return se3.retract(world.truth, step, world.volume.centre_patient)


def test_tracking_costs_less_than_the_first_frame(world, tracker):
    first = tracker.update(world.xray())
    second = tracker.update(world.xray(pose=_moved(world, 3.0)))
    assert first.accepted
    assert second.accepted
    assert second.n_renders < first.n_renders / 3
    assert target_registration_errors(second.camera_from_patient, _moved(world, 3.0), world.landmarks_patient).in_plane_mm < 0.5


def test_a_blank_frame_is_rejected_and_forgotten(world, tracker):
    image = world.xray()
    assert tracker.update(image).accepted
    blank = tracker.update(replace(image, pixels=torch.zeros_like(image.pixels)))
    assert blank.outcome is Outcome.REJECTED_IMAGE
    after = tracker.update(world.xray(pose=_moved(world, 2.0)))
    assert after.accepted
    assert after.n_renders < 60


def test_a_jump_beyond_the_limit_is_not_published(world, tracker):
    assert tracker.update(world.xray()).accepted
    tight = replace(tracker.registrar.options, gate=replace(tracker.registrar.options.gate, maximum_jump_mm=2.0))
    tracker.change_options(replace(tight, seed=7))
    assert tracker.registrar.options.seed == 0  # only what may change while images arrive
    jumped = tracker.update(world.xray(pose=_moved(world, 12.0)))
    assert jumped.outcome is Outcome.REJECTED_POSE
    assert "jumped" in jumped.reason


def test_after_many_rejections_the_initial_pose_is_used_again(world, tracker):
    image = world.xray()
    tracker.update(image)
    noise = replace(image, pixels=torch.rand(image.pixels.shape, generator=torch.Generator().manual_seed(0)) * 1000)
    for _ in range(LOST_AFTER):
        assert not tracker.update(noise).accepted
    found = tracker.update(image)
    assert found.accepted
    torch.testing.assert_close(found.initial_camera_from_patient.matrix(), tracker.initial_pose.matrix())


def test_without_an_initial_pose_nothing_is_accepted(world):
    tracker = Tracker(Registrar(world.volume, RegistrationOptions()), None)
    assert tracker.update(world.xray()).outcome is Outcome.NO_START
    tracker.set_initial_pose(world.truth)
    assert tracker.update(world.xray()).accepted
    tracker.reset()
    assert tracker.update(world.xray()).initial_camera_from_patient is world.truth
