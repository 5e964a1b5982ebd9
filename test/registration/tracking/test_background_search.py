"""Searches beside tracking: frames never wait for them, and what they find is judged in the image that it is used for."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import se3
from fluoro_reg.registration import Outcome, Registrar, RegistrationOptions, Tracker
from fluoro_reg.registration.tracker import LOST_AFTER
from fluoro_reg.rendering.threads import StoppedError, in_background, parallel_for

PERIOD_NS = 66_666_667
TIMEOUT_S = 60.0


class Gate:
    """Holds searches up until it is opened, and tells when one has ended. `failure` is raised by the next search."""

    def __init__(self):
        self.open, self.ended = threading.Event(), threading.Event()
        self.searches, self.failure, self.thorough = 0, None, []

    def count(self, at_least):
        """The number of searches, after the time that their thread may need to begin one."""
        end = time.monotonic() + TIMEOUT_S
        while self.searches < at_least and time.monotonic() < end:
            time.sleep(0.01)
        return self.searches


@pytest.fixture
def gate(monkeypatch):
    gate, register = Gate(), Registrar.register

    def slow(registrar, xray, initial_pose=None, prior=None, tracking=False, reading="", decoy_similarity=None, thorough=True):
        if not tracking:
            gate.searches += 1
            gate.thorough.append(thorough)
            assert gate.open.wait(TIMEOUT_S)
            if gate.failure is not None:
                failure, gate.failure = gate.failure, None
                raise failure
        return register(registrar, xray, initial_pose, prior, tracking, reading)

    monkeypatch.setattr(Registrar, "register", slow)
    yield gate
    gate.open.set()


@pytest.fixture
def tracker(world, gate):
    tracker = Tracker(Registrar(world.volume, RegistrationOptions()), world.truth, background=True)
    tracker.when_search_ends(gate.ended.set)
    yield tracker
    gate.open.set()
    assert tracker.close(TIMEOUT_S)


def _moved(world, mm):
    step = torch.tensor([mm, 0.0, 0.0, 0.0, 0.0, 0.02], dtype=torch.float64)
    return se3.retract(world.truth, step, world.volume.centre_patient)


def _fresh(world, seed, mm=0.0):
    image = world.xray(pose=_moved(world, mm))
    noise = torch.randn(image.pixels.shape, generator=torch.Generator().manual_seed(seed))
    return replace(image, pixels=image.pixels + 20 * noise)


def _noise(world, seed):
    image = world.xray()
    return replace(image, pixels=torch.rand(image.pixels.shape, generator=torch.Generator().manual_seed(seed)) * 1000)


def _other(world, mm):
    """Another patient: the body is the same, the bones are others."""
    other = replace(world.volume, attenuation=world.volume.attenuation.flip(2).contiguous())
    return world.xray(volume=other, pose=_moved(world, mm))


def _in_plane_mm(world, result, mm):
    return target_registration_errors(result.camera_from_patient, _moved(world, mm), world.landmarks_patient).in_plane_mm


def _initialise(world, tracker, gate):
    """Two tracked frames; the next is the third."""
    gate.open.set()
    tracker.update(_fresh(world, 0), 0)
    assert gate.ended.wait(TIMEOUT_S)
    assert tracker.update(_fresh(world, 1), PERIOD_NS).accepted
    gate.open.clear()
    gate.ended.clear()


def test_frames_are_answered_while_a_search_runs(world, tracker, gate):
    results = [tracker.update(_fresh(world, n), n * PERIOD_NS) for n in range(3)]
    assert gate.count(at_least=1) == 1
    for result in results:
        assert (result.outcome, result.state, result.searching) == (Outcome.SEARCHING, "initialising", True)
        assert result.camera_from_patient is None
        assert "a search for the patient is running" in result.reason


def test_what_is_found_is_carried_to_the_next_image_and_judged_there(world, tracker, gate):
    tracker.update(_fresh(world, 0), 0)
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    found = tracker.update(_fresh(world, 1, mm=4.0), PERIOD_NS)
    assert (found.accepted, found.state, found.searching) == (True, "tracking", False)
    assert _in_plane_mm(world, found, 4.0) < 0.5
    assert gate.searches == 1


def test_what_is_found_is_not_published_for_an_image_that_does_not_show_it(world, tracker, gate):
    tracker.update(_fresh(world, 0), 0)
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    gate.open.clear()
    result = tracker.update(_other(world, 0.0), PERIOD_NS)
    assert (result.outcome, result.camera_from_patient, result.state) == (Outcome.SEARCHING, None, "initialising")
    assert result.searching
    assert gate.count(at_least=2) == 2  # the next one, for this image
    assert "the one before" in result.reason


def test_only_a_search_after_one_that_failed_is_thorough(world, tracker, gate):
    """A blocked view may be free in the next image. With another initial pose, nothing has failed yet."""
    gate.open.set()
    for n in range(3):
        if n == 2:
            tracker.set_initial_pose(world.truth)
        tracker.update(_other(world, float(n)), n * PERIOD_NS)
        assert gate.ended.wait(TIMEOUT_S)
        gate.ended.clear()
    assert gate.thorough == [False, True, False]


def test_what_is_found_waits_for_an_image_that_can_show_it(world, tracker, gate):
    tracker.update(_fresh(world, 0), 0)
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    assert tracker.update(_noise(world, 1), PERIOD_NS).outcome is Outcome.REJECTED_IMAGE
    assert tracker.update(_fresh(world, 2), 2 * PERIOD_NS).accepted
    assert gate.searches == 1


def test_without_a_further_image_the_last_one_is_answered_late(world, tracker, gate):
    assert tracker.late_result() is None
    tracker.update(_fresh(world, 0), 0)
    tracker.update(_fresh(world, 1, mm=3.0), PERIOD_NS)
    assert tracker.late_result() is None
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    late = tracker.late_result()
    assert (late.accepted, late.state, late.searching) == (True, "tracking", False)
    assert _in_plane_mm(world, late, 3.0) < 0.5  # that of the last image, not of the one that was searched
    assert tracker.late_result() is None


def test_a_late_answer_says_why_nothing_was_found(world, tracker, gate):
    tracker.update(_noise(world, 0), 0)
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    late = tracker.late_result()
    assert not late.accepted
    assert late.outcome not in (Outcome.SEARCHING, Outcome.CONVERGED)
    assert not late.searching


def test_if_the_last_image_does_not_show_what_was_found_it_is_searched_itself(world, tracker, gate):
    tracker.update(_noise(world, 0), 0)
    tracker.update(_fresh(world, 1), PERIOD_NS)
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    gate.ended.clear()
    assert tracker.late_result() is None
    assert gate.ended.wait(TIMEOUT_S)
    assert tracker.late_result().accepted


def test_an_image_that_is_not_registered_has_no_late_answer(world, tracker, gate):
    image = _fresh(world, 0)
    tracker.update(image, 0)
    again = tracker.update(replace(image, pixels=image.pixels.clone()), PERIOD_NS)
    assert (again.frame, again.searching) == ("repeated", False)
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    assert tracker.late_result() is None
    assert tracker.update(_fresh(world, 1), 2 * PERIOD_NS).accepted


def test_a_reset_discards_the_search(world, tracker, gate):
    tracker.update(_fresh(world, 0), 0)
    tracker.reset()
    assert tracker.state == "uninitialised"
    gate.open.set()
    assert tracker.late_result() is None
    other = _moved(world, 6.0)
    tracker.set_initial_pose(other)
    assert not gate.ended.is_set()
    tracker.update(_fresh(world, 1), PERIOD_NS)
    assert gate.ended.wait(TIMEOUT_S)  # of the second search alone
    found = tracker.late_result()
    assert found.accepted
    assert found.initial_camera_from_patient is other


def test_tracking_goes_on_during_a_search_and_makes_it_obsolete(world, tracker, gate):
    _initialise(world, tracker, gate)
    bad = [tracker.update(_other(world, 0.1 * n), n * PERIOD_NS) for n in (2, 3)]
    assert [result.state for result in bad] == ["degraded"] * 2
    assert [result.searching for result in bad] == [False, True]
    assert bad[1].reason.endswith("a search for the patient is running")
    tracked = tracker.update(_fresh(world, 4), 4 * PERIOD_NS)
    assert (tracked.accepted, tracked.state, tracked.searching) == (True, "tracking", False)
    gate.open.set()
    assert tracker.late_result() is None


def test_a_patient_who_is_lost_is_found_beside_the_stream(world, tracker, gate):
    _initialise(world, tracker, gate)
    states = [tracker.update(_other(world, 0.1 * n), n * PERIOD_NS).state for n in range(2, LOST_AFTER + 3)]
    assert states[-1] == "lost"
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    for n in range(30):
        result = tracker.update(_fresh(world, 20 + n, mm=45.0), (20 + n) * PERIOD_NS)
        if result.accepted:
            break
        gate.ended.wait(0.2)
    assert result.state == "tracking"
    assert _in_plane_mm(world, result, 45.0) < 0.5


def test_an_exception_of_a_search_reaches_the_caller_once(world, tracker, gate):
    gate.failure = ZeroDivisionError()
    tracker.update(_fresh(world, 0), 0)
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    gate.ended.clear()
    with pytest.raises(ZeroDivisionError):
        tracker.update(_fresh(world, 1), PERIOD_NS)
    assert tracker.update(_fresh(world, 2), 2 * PERIOD_NS).outcome is Outcome.SEARCHING
    assert gate.ended.wait(TIMEOUT_S)
    assert tracker.update(_fresh(world, 3), 3 * PERIOD_NS).accepted


def test_options_that_change_during_a_search_hold_for_its_answer(world, tracker, gate):
    tracker.update(_fresh(world, 0), 0)
    options = tracker.registrar.options
    tracker.change_options(replace(options, gate=replace(options.gate, minimum_similarity=0.999)))
    gate.open.set()
    assert gate.ended.wait(TIMEOUT_S)
    assert not tracker.update(_fresh(world, 1), PERIOD_NS).accepted


def test_closing_waits_for_the_thread_and_the_tracker_can_go_on(world, tracker, gate):
    tracker.update(_fresh(world, 0), 0)
    assert tracker.searching_since is not None
    assert not tracker.close(0.05)
    gate.open.set()
    assert tracker.close(TIMEOUT_S)
    assert tracker.searching_since is None
    tracker.reset()
    tracker.update(_fresh(world, 1), PERIOD_NS)
    assert gate.ended.wait(TIMEOUT_S)
    assert tracker.late_result().accepted


def test_without_a_background_the_same_images_give_the_same_answers(world):
    """Also where searches are needed in between."""
    images = [_fresh(world, n) for n in range(2)] + [_other(world, 0.1 * n) for n in range(3)] + [_fresh(world, 9, mm=40.0)]
    answers = []
    for _ in range(2):
        tracker = Tracker(Registrar(world.volume, RegistrationOptions()), world.truth)
        results = [tracker.update(image, n * PERIOD_NS) for n, image in enumerate(images)]
        assert not any(result.searching or result.outcome is Outcome.SEARCHING for result in results)
        answers.append([(result.outcome, result.state, result.similarity) for result in results])
    assert answers[0] == answers[1]


def test_background_loops_stop_when_they_are_not_wanted():
    stop, done = threading.Event(), []
    with in_background(stop.is_set):
        parallel_for(lambda first, last: done.append((first, last)), 4)
        stop.set()
        with pytest.raises(StoppedError):
            parallel_for(lambda first, last: done.append((first, last)), 4)
    assert sum(last - first for first, last in done) == 4
    parallel_for(lambda first, last: done.append((first, last)), 4)  # the thread is free again
    assert sum(last - first for first, last in done) == 8
