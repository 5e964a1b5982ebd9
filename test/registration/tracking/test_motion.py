"""The motion filter against closed forms, and against a Kalman filter of the whole state."""

import torch

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.geometry import retract, se3
from fluoro_reg.registration.tracking.motion import MEMORY_S, MotionModel, MotionState

PIVOT = torch.tensor([10.0, -20.0, 300.0], dtype=torch.float64)
MODEL = MotionModel(PIVOT, (300.0, 2.0))
START = ap_pose(PIVOT, 700.0)
SD = torch.tensor([0.3, 0.3, 0.3, 0.003, 0.003, 0.003], dtype=torch.float64)
INFORMATION = SD.square().reciprocal().diag()
PERIOD_NS = 66_666_667


def _track(velocity, frames, model=MODEL):
    """Exact poses of a constant velocity, through the filter."""
    state = MotionState.first(0, START, SD.square().diag())
    for n in range(1, frames):
        predicted = model.predict(state, n * PERIOD_NS)
        state = model.correct(predicted, retract(START, n * PERIOD_NS * 1e-9 * velocity, PIVOT), INFORMATION)
    return state


def test_a_constant_velocity_is_learned_and_predicted():
    velocity = torch.tensor([20.0, -10.0, 5.0, 0.1, 0.2, -0.1], dtype=torch.float64)
    state = _track(velocity, 30)
    predicted = MODEL.predict(state, state.stamp_ns + PERIOD_NS)
    truth = retract(START, 30 * PERIOD_NS * 1e-9 * velocity, PIVOT)
    error = se3.local(truth, predicted.pose, PIVOT)
    still = se3.local(truth, state.pose, PIVOT)
    assert error[:3].norm() < 0.25 * still[:3].norm()
    assert error[3:].norm() < 0.25 * still[3:].norm()


def test_a_pose_at_rest_stays_where_it_is():
    state = _track(torch.zeros(6, dtype=torch.float64), 10)
    torch.testing.assert_close(state.pose.matrix(), START.matrix(), atol=1e-9, rtol=0)


def test_after_a_gap_the_velocity_is_gone_and_the_uncertainty_is_large():
    state = _track(torch.tensor([30.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), 30)
    after = MODEL.predict(state, state.stamp_ns + 2_000_000_000)
    moved = se3.local(state.pose, after.pose, PIVOT)[:3].norm()
    assert moved <= MEMORY_S * state.velocity[:3].norm() + 1e-9
    assert after.velocity[:3].norm() < 0.01 * state.velocity[:3].norm()
    assert after.covariance[0, 0] > 100 * MODEL.predict(state, state.stamp_ns + PERIOD_NS).covariance[0, 0]


def test_stamps_that_go_back_or_are_missing_do_no_harm():
    state = _track(torch.tensor([30.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64), 5)
    torch.testing.assert_close(MODEL.predict(state, state.stamp_ns - 1).pose.matrix(), state.pose.matrix())
    assert not torch.equal(MODEL.predict(state, None).pose.translation, state.pose.translation)


def test_the_correction_is_that_of_a_kalman_filter():
    state = _track(torch.tensor([20.0, -10.0, 5.0, 0.1, 0.2, -0.1], dtype=torch.float64), 4)
    predicted = MODEL.predict(state, state.stamp_ns + PERIOD_NS)
    innovation = torch.tensor([0.4, -0.2, 0.1, 0.002, 0.001, -0.003], dtype=torch.float64)
    corrected = MODEL.correct(predicted, retract(predicted.pose, innovation, PIVOT), INFORMATION)
    p, h = predicted.covariance, torch.eye(6, 12, dtype=torch.float64)
    gain = p @ h.T @ torch.linalg.inv(h @ p @ h.T + torch.linalg.inv(INFORMATION))
    change = gain @ innovation
    torch.testing.assert_close(se3.local(predicted.pose, corrected.pose, PIVOT), change[:6], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(corrected.velocity, predicted.velocity + change[6:], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(corrected.covariance, p - gain @ h @ p, atol=1e-9, rtol=1e-7)


def test_a_filtered_pose_is_corrected_as_the_image_that_led_to_it():
    state = _track(torch.tensor([20.0, -10.0, 5.0, 0.1, 0.2, -0.1], dtype=torch.float64), 4)
    predicted = MODEL.predict(state, state.stamp_ns + PERIOD_NS)
    innovation = torch.tensor([0.4, -0.2, 0.1, 0.002, 0.001, -0.003], dtype=torch.float64)
    by_image = MODEL.correct(predicted, retract(predicted.pose, innovation, PIVOT), INFORMATION)
    by_pose = MODEL.correct_filtered(predicted, by_image.pose, INFORMATION)
    for name in ("velocity", "covariance"):
        torch.testing.assert_close(getattr(by_pose, name), getattr(by_image, name), atol=1e-9, rtol=1e-7)
