"""The tracker: from the last accepted pose, never from a rejected one."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.config import from_mapping
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import se3
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions, Tracker
from fluoro_reg.registration.stages.ray_kernels import mark_complete_rays
from fluoro_reg.registration.tracker import LOST_AFTER
from fluoro_reg.registration.tracking.kernels import sum_gradient_strip
from fluoro_reg.similarity.kernels import sum_gradient_products


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


def test_after_many_rejections_a_patient_who_has_not_moved_is_found_without_a_search(world, tracker):
    assert tracker.update(_fresh(world)).accepted
    assert _states(tracker, [_noise(world.xray(), n) for n in range(LOST_AFTER)])[-1] == "lost"
    found = tracker.update(_fresh(world, seed=1))
    assert found.accepted
    assert found.n_renders <= 12


def test_after_many_rejections_the_initial_pose_is_used_again(world, tracker):
    """For a patient who is back there, far from where he was seen last."""
    assert all(tracker.update(_fresh(world, _moved(world, 8.0 * n), n)).accepted for n in range(9))
    assert _states(tracker, [_noise(world.xray(), n) for n in range(LOST_AFTER)])[-1] == "lost"
    found = tracker.update(_fresh(world))
    assert found.accepted
    torch.testing.assert_close(found.initial_camera_from_patient.matrix(), tracker.initial_pose.matrix())


def test_without_an_initial_pose_views_are_searched_until_one_is_set(world):
    tracker = Tracker(Registrar(world.volume, RegistrationOptions()), None)
    assert tracker.update(world.xray()).accepted
    tracker.set_initial_pose(world.truth)
    assert tracker.update(world.xray()).accepted
    tracker.reset()
    assert tracker.update(world.xray()).initial_camera_from_patient is world.truth


def _states(tracker, frames):
    return [tracker.update(frame).state for frame in frames]


def _noise(image, seed):
    return replace(image, pixels=torch.rand(image.pixels.shape, generator=torch.Generator().manual_seed(seed)) * 1000)


def _fresh(world, pose=None, seed=0):
    """An X-ray with noise of its own, as every frame of a detector has."""
    image = world.xray(pose=pose)
    noise = torch.randn(image.pixels.shape, generator=torch.Generator().manual_seed(seed))
    return replace(image, pixels=image.pixels + 20 * noise)


def test_the_states_of_a_sequence(world, tracker):
    assert tracker.state == "uninitialised"
    good = [_fresh(world, _moved(world, 0.4 * n), n) for n in range(4)]
    assert _states(tracker, good) == ["tracking"] * 4
    assert (
        _states(tracker, [_noise(good[0], n) for n in range(LOST_AFTER + 1)]) == ["degraded"] * (LOST_AFTER - 1) + ["lost"] * 2
    )
    assert _states(tracker, good[:1]) == ["tracking"]
    tracker.reset()
    assert tracker.state == "uninitialised"


def test_a_frame_that_cannot_be_found_leaves_the_tracker_initialising(world):
    tracker = Tracker(Registrar(world.volume, RegistrationOptions()), se3.retract(
        world.truth, torch.tensor([90.0, 0.0, 60.0, 0.4, 0.3, 0.0], dtype=torch.float64), world.volume.centre_patient
    ))  # fmt: skip
    assert not tracker.update(world.xray()).accepted
    assert tracker.state == "initialising"


def test_a_repeated_frame_is_recognised_and_not_registered(world, tracker):
    image = world.xray()
    assert tracker.update(image).accepted
    for _ in range(2):
        again = tracker.update(replace(image, pixels=image.pixels.clone()))
        assert (again.frame, again.state, again.outcome) == ("repeated", "degraded", Outcome.REJECTED_IMAGE)
        assert again.camera_from_patient is None
        assert again.n_renders == 0
    assert tracker.update(_fresh(world)).accepted


def test_repeated_frames_are_registered_on_request(world):
    options = from_mapping(RegistrationOptions, {"tracking": {"register_repeats": True}})
    tracker, image = Tracker(Registrar(world.volume, options), world.truth), world.xray()
    assert all(tracker.update(image).accepted for _ in range(3))


def test_a_dark_frame_is_recognised(world, tracker):
    image = world.xray()
    tracker.update(image)
    dark = tracker.update(replace(image, pixels=5 * torch.rand(image.pixels.shape)))
    assert (dark.frame, dark.camera_from_patient, dark.n_renders) == ("dark", None, 0)


def test_a_tracked_frame_takes_no_more_than_eight_renders(world, tracker):
    results = [tracker.update(_fresh(world, _moved(world, 0.4 * n), n), n * 66_666_667) for n in range(8)]
    assert all(result.accepted for result in results)
    assert max(result.n_renders for result in results[1:]) <= 8
    error = target_registration_errors(results[-1].camera_from_patient, _moved(world, 2.8), world.landmarks_patient)
    assert error.in_plane_mm < 0.3


def test_a_patient_who_was_pushed_is_found_in_the_second_frame_at_the_latest(world, tracker):
    assert tracker.update(_fresh(world)).accepted
    results = [tracker.update(_fresh(world, _moved(world, 20.0), n)) for n in (1, 2)]
    assert results[-1].accepted
    error = target_registration_errors(results[-1].camera_from_patient, _moved(world, 20.0), world.landmarks_patient)
    assert error.in_plane_mm < 0.5


def test_nothing_of_a_prediction_is_accepted_while_the_image_shows_another_patient(world, tracker):
    """The body is the same and stays where it is; the bones are others."""
    for n in range(4):
        assert tracker.update(_fresh(world, seed=n)).accepted
    other = replace(world.volume, attenuation=world.volume.attenuation.flip(2).contiguous())
    results = [tracker.update(world.xray(volume=other, pose=_moved(world, 0.1 * n))) for n in range(LOST_AFTER)]
    assert not any(result.accepted for result in results)
    assert results[-1].state == "lost"


def test_a_pose_that_leaves_the_prediction_while_the_similarity_falls_is_rejected(world, tracker):
    assert tracker.update(_fresh(world)).accepted
    tracker._last = replace(tracker._last, similarity=2.0)
    assert tracker.update(_fresh(world, seed=1)).accepted  # as predicted
    tracker._last = replace(tracker._last, similarity=2.0)
    away = tracker.update(_fresh(world, _moved(world, 25.0), 2))
    away = away if "similarity fell" in away.reason else tracker.update(_fresh(world, _moved(world, 25.0), 3))
    assert away.outcome is Outcome.REJECTED_POSE
    assert "similarity fell" in away.reason


def test_an_uncertain_prediction_lets_no_other_explanation_through(world, tracker):
    """As for a run of mirrored frames, during which the prediction grows uncertain."""
    assert tracker.update(_fresh(world), 0).accepted
    for n in (1, 2):
        tracker.update(_noise(world.xray(), n), n * 66_666_667)
    tracker._last = replace(tracker._last, similarity=2.0)
    away = tracker.update(_fresh(world, _moved(world, 6.0), 3), 600_000_000)
    assert "similarity fell" in away.reason


@pytest.mark.parametrize("pose", ["image", "filtered"])
def test_the_result_says_what_its_pose_rests_on(world, pose):
    options = from_mapping(RegistrationOptions, {"tracking": {"pose": pose}})
    tracker = Tracker(Registrar(world.volume, options), world.truth)
    first, second = (tracker.update(_fresh(world, seed=n), n * 66_666_667) for n in range(2))
    assert (first.pose_source, second.pose_source) == ("image", pose)


def test_a_filtered_pose_is_steadier_in_depth(world):
    depths = {}
    for pose in ("image", "filtered"):
        options = from_mapping(
            RegistrationOptions, {"tracking": {"pose": pose, "acceleration_mm_s2": 5.0, "acceleration_deg_s2": 1.0}}
        )
        tracker = Tracker(Registrar(world.volume, options), world.truth)
        results = []
        for n in range(20):
            image = world.xray()
            noise = 400 * torch.randn(image.pixels.shape, generator=torch.Generator().manual_seed(n))
            results.append(tracker.update(replace(image, pixels=(image.pixels + noise).clamp_min(1)), n * 66_666_667))
        assert all(result.accepted for result in results)
        centres = [result.camera_from_patient.apply(world.volume.centre_patient[None])[0] for result in results[10:]]
        depths[pose] = torch.stack(centres)[:, 2].std()
    assert depths["filtered"] < 0.5 * depths["image"]


def test_without_a_fused_pass_the_last_stages_of_the_method_track(world, monkeypatch):
    """As with a method that ends with another similarity or optimiser."""
    monkeypatch.setattr("fluoro_reg.registration.tracking.frame_solver.has_fused_pass", lambda similarity, renderer: False)
    tracker = Tracker(Registrar(world.volume, RegistrationOptions()), world.truth)
    results = [tracker.update(_fresh(world, _moved(world, 0.4 * n), n)) for n in range(3)]
    assert all(result.accepted and result.state == "tracking" for result in results)
    assert "search" in results[1].seconds


def test_kernels_are_compiled_before_the_first_frame(world):
    """Compilation takes seconds: a live stream would lose frames to it."""
    tracker = Tracker(Registrar(world.volume, RegistrationOptions(device="cpu")), world.truth)
    kernels = (sum_gradient_strip, sum_gradient_products, mark_complete_rays)
    compiled = [list(kernel.signatures) for kernel in kernels]
    assert all(compiled)
    assert all(tracker.update(_fresh(world, seed=n)).accepted for n in range(2))
    assert [list(kernel.signatures) for kernel in kernels] == compiled
