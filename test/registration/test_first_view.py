"""Several X-rays without an initial pose: each pose that may explain the first one is tried in all of them."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Hypothesis, Outcome, RegistrationResult
from fluoro_reg.registration.first_view import register_from_first

NOWHERE = RigidTransform.identity()


def at(x):
    return RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([x, 0.0, 700.0], dtype=torch.float64))


def result(outcome, x=None, reason="", others=(), **values):
    alternatives = tuple(Hypothesis(at(other), 0.5) for other in others)
    pose = None if x is None else at(x)
    return RegistrationResult(outcome, reason, "any", camera_from_patient=pose, alternatives=alternatives, **values)


def tried(found, answers, camera=NOWHERE):
    """The result, and the places where registrations began; `answers` are those of all X-rays, by place."""
    starts = []

    def register(start):
        starts.append(float(start.translation[0]))
        return answers[starts[-1]]

    def distance(one, other):
        return float((one.translation - other.translation).norm())

    return register_from_first(found, camera, register, distance, 5.0), starts


def test_the_second_view_decides_between_poses_of_a_symmetric_object():
    found = result(Outcome.AMBIGUOUS, 0.0, others=(30.0,), start="range", elapsed_s=1.0, n_renders=10)
    wrong = result(Outcome.REJECTED_POSE, 0.0, "view 2: the similarity is low", elapsed_s=2.0, n_renders=20)
    right = result(Outcome.CONVERGED, 30.0, elapsed_s=3.0, n_renders=30)
    answer, starts = tried(found, {0.0: wrong, 30.0: right})
    assert starts == [0.0, 30.0]
    assert answer == replace(right, start="range", elapsed_s=6.0, n_renders=60)


def test_different_accepted_poses_are_ambiguous():
    found = result(Outcome.AMBIGUOUS, 0.0, others=(30.0, 31.0))
    same = {x: result(Outcome.CONVERGED, x) for x in (0.0, 30.0, 31.0)}
    assert tried(found, same)[0].outcome is Outcome.AMBIGUOUS
    assert tried(replace(found, camera_from_patient=at(30.0), alternatives=found.alternatives[1:]), same)[0].accepted


def test_a_first_view_without_a_pose_ends_there():
    answer, starts = tried(result(Outcome.REJECTED_IMAGE, reason="the image is blank"), {})
    assert (answer.outcome, answer.reason, starts) == (Outcome.REJECTED_IMAGE, "view 1: the image is blank", [])


def test_poses_are_carried_to_the_reference():
    found = result(Outcome.CONVERGED, 1.0)
    _, starts = tried(found, {3.0: result(Outcome.CONVERGED, 3.0)}, replace(at(2.0), translation=at(2.0).translation * 1.0))
    assert starts == pytest.approx([3.0])
