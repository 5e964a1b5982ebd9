"""Several X-rays without an initial pose: what the first one accepts alone is refined in all of them."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Outcome, RegistrationResult
from fluoro_reg.registration.first_view import register_from_first

NOWHERE = RigidTransform.identity()


def at(x):
    return RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([x, 0.0, 700.0], dtype=torch.float64))


def result(outcome, x=None, reason="", **values):
    return RegistrationResult(outcome, reason, "any", camera_from_patient=None if x is None else at(x), **values)


def tried(found, answers, camera=NOWHERE):
    """The result, and the places where registrations began; `answers` are those of all X-rays, by place."""
    starts = []

    def register(start):
        starts.append(float(start.translation[0]))
        return answers[starts[-1]]

    def distance(one, other):
        return float((one.translation - other.translation).norm())

    return register_from_first(found, camera, register, distance, 5.0), starts


def test_all_views_are_registered_from_what_the_first_one_accepts():
    found = result(Outcome.CONVERGED, 0.0, start="range", elapsed_s=1.0, n_renders=10)
    together = result(Outcome.CONVERGED, 1.0, elapsed_s=2.0, n_renders=20)
    answer, starts = tried(found, {0.0: together})
    assert starts == [0.0]
    assert answer == replace(together, start="range", elapsed_s=3.0, n_renders=30)


@pytest.mark.parametrize("outcome", [Outcome.AMBIGUOUS, Outcome.REJECTED_POSE, Outcome.NOT_CONVERGED])
def test_a_pose_that_the_first_view_alone_does_not_accept_is_ambiguous(outcome):
    answer, _ = tried(result(outcome, 0.0, "the mirrored image is explained as well"), {0.0: result(Outcome.CONVERGED, 0.0)})
    assert answer.outcome is Outcome.AMBIGUOUS
    assert "the first view alone does not accept this one (the mirrored image is explained as well)" in answer.reason


def test_another_pose_than_that_of_the_first_view_is_ambiguous():
    answer, _ = tried(result(Outcome.CONVERGED, 0.0), {0.0: result(Outcome.CONVERGED, 30.0)})
    assert answer.outcome is Outcome.AMBIGUOUS


def test_a_first_view_without_a_pose_ends_there():
    answer, starts = tried(result(Outcome.REJECTED_IMAGE, reason="the image is blank"), {})
    assert (answer.outcome, answer.reason, starts) == (Outcome.REJECTED_IMAGE, "view 1: the image is blank", [])


def test_poses_are_carried_to_the_reference():
    found = result(Outcome.CONVERGED, 1.0)
    _, starts = tried(found, {3.0: result(Outcome.CONVERGED, 3.0)}, replace(at(2.0), translation=at(2.0).translation * 1.0))
    assert starts == pytest.approx([3.0])
