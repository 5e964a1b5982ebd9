"""The node while a search runs beside tracking: images go on, and a late answer belongs to the last image or to none."""

import threading
import time

import pytest
from helpers.ros_bench import KNOWN_POSE, FakeTracker
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, key_values
from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import Trigger

from fluoro_reg.registration import Outcome, RegistrationResult
from fluoro_reg.ros.conversions import stamp_ns
from fluoro_reg.ros.watchdog import Watchdog

pytestmark = pytest.mark.ros


class SearchingTracker(FakeTracker):
    """Searches until `find` is called; then it has a late answer for its last image."""

    def __init__(self):
        super().__init__()
        self.found, self.closed, self.failure, self.may_close = False, 0, None, threading.Event()
        self.may_close.set()

    def update(self, xray, stamp_ns=None):
        super().update(xray, stamp_ns)
        return RegistrationResult(Outcome.SEARCHING, "a search runs", "fake", state="initialising", frame="new", searching=True)

    def find(self):
        self.found = True
        self.on_search_end()

    def late_result(self):
        if self.failure is not None:
            raise self.failure
        if not self.found:
            return None
        self.found = False
        return RegistrationResult(
            Outcome.CONVERGED, "all gates hold", "fake", KNOWN_POSE, similarity=0.9, state="tracking", frame="new"
        )

    def close(self, timeout_s):
        self.closed += 1
        self.found = False
        return self.may_close.wait(timeout_s)


@pytest.fixture
def tracker():
    return SearchingTracker()


@pytest.fixture
def bench(make_bench, tracker):
    bench = make_bench(tracker)
    bench.activate()
    return bench


def test_images_are_answered_during_a_search_and_the_last_one_again_after_it(bench, tracker):
    for n in range(3):
        values = key_values(bench.send_and_wait(FIRST_STAMP + n * FRAME_NS))
        assert (values["outcome"], values["searching"], values["late"]) == ("searching", "true", "false")
    assert not bench.transforms()
    tracker.find()
    bench.spin_until(lambda: len(bench.transforms()) == 1)
    bench.spin_until(lambda: len(bench.results()) == 4)
    assert stamp_ns(bench.transforms()[0].header.stamp) == FIRST_STAMP + 2 * FRAME_NS
    last = bench.results()[-1]
    assert (last["stamp_ns"], last["accepted"], last["late"]) == (str(FIRST_STAMP + 2 * FRAME_NS), "true", "true")
    bench.spin_until(lambda: key_values(bench.diagnostics("registration"))["state"] == "tracking")
    counts = key_values(bench.diagnostics("registration"))
    assert (counts["searching"], counts["accepted"], counts["frames new"]) == ("3", "1", "3")


def test_nothing_is_published_when_a_reset_comes_before_the_answer(bench, tracker):
    bench.send_and_wait(FIRST_STAMP)
    assert bench.call(Trigger, "reset").success
    tracker.find()
    bench.spin_for(0.3)
    assert len(bench.results()) == 1
    assert not bench.transforms()


def test_a_reset_while_the_answer_is_made_rejects_it(bench, tracker, monkeypatch):
    bench.send_and_wait(FIRST_STAMP)
    make, begun, release = tracker.late_result, threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert release.wait(10)
        return make()

    monkeypatch.setattr(tracker, "late_result", slow)
    tracker.find()
    assert begun.wait(10)
    assert bench.call(Trigger, "reset").success
    release.set()
    bench.spin_until(lambda: len(bench.results()) == 2)
    assert "reset" in bench.results()[-1]["reason"]
    assert not bench.transforms()


def test_an_exception_of_a_search_is_a_rejection_like_any_other(bench, tracker):
    bench.send_and_wait(FIRST_STAMP)
    tracker.failure = ZeroDivisionError()
    tracker.find()
    bench.spin_until(lambda: len(bench.results()) == 2)
    assert "internal error (ZeroDivisionError" in bench.results()[-1]["reason"]
    tracker.failure = None
    assert key_values(bench.send_and_wait(FIRST_STAMP + FRAME_NS))["outcome"] == "searching"
    assert not bench.transforms()


def test_deactivating_ends_the_search_and_its_answer_is_not_published(bench, tracker):
    bench.send_and_wait(FIRST_STAMP)
    tracker.may_close.clear()
    threading.Timer(0.5, tracker.may_close.set).start()
    assert bench.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert tracker.may_close.is_set()
    tracker.find()
    bench.spin_for(0.2)
    assert bench.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.spin_for(0.3)
    assert len(bench.results()) == 1
    assert not bench.transforms()
    assert key_values(bench.send_and_wait(FIRST_STAMP + FRAME_NS))["outcome"] == "searching"


@pytest.mark.parametrize("transition", ["trigger_cleanup", "trigger_shutdown"])
def test_the_other_transitions_end_the_search_too(bench, tracker, transition):
    bench.send_and_wait(FIRST_STAMP)
    if transition == "trigger_cleanup":
        assert bench.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert getattr(bench.node, transition)() == TransitionCallbackReturn.SUCCESS
    assert tracker.closed == 1
    tracker.find()
    bench.spin_for(0.2)
    assert not bench.transforms()


def test_a_search_that_hangs_is_overdue_like_a_frame():
    searching = {"since": None}
    watchdog = Watchdog(0.5, ends_process=False, searching_since=lambda: searching["since"])
    watchdog.begin()
    watchdog.end()
    assert watchdog.overdue() == ""
    searching["since"] = time.monotonic() - 1.0
    assert "computation_timeout = 0.5 s" in watchdog.overdue()
    searching["since"] = None
    assert watchdog.overdue() == ""
