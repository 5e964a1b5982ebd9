"""What the node tells about each stage of a frame, and about the tracker's state."""

import threading
from dataclasses import replace

import pytest
from helpers.ros_bench import FakeTracker
from helpers.ros_probe import key_values

from fluoro_reg.registration.result import RegistrationResult

pytestmark = pytest.mark.ros
STAMP, PERIOD_NS = 1_700_000_000_000_000_000, 66_666_667


class StatefulTracker(FakeTracker):
    """Reports a state, a kind of frame and stages, as the tracker does."""

    def update(self, xray, stamp_ns=None) -> RegistrationResult:
        stages = {"preprocess": 0.003, "refine": 0.012, "assess": 0.008}
        result = super().update(xray, stamp_ns)
        state = "tracking" if result.accepted else "degraded"
        return replace(result, seconds=stages, state=state, frame="new", pose_source="filtered")


@pytest.fixture
def bench(make_bench):
    bench = make_bench(tracker=StatefulTracker())
    bench.activate()
    return bench


def test_a_result_tells_the_state_what_the_pose_rests_on_and_the_seconds_of_each_stage(bench):
    values = key_values(bench.send_and_wait(STAMP))
    assert (values["state"], values["frame"], values["pose_source"]) == ("tracking", "new", "filtered")
    for stage in ("transport", "wait", "decode", "register", "register.refine"):
        assert float(values[f"seconds.{stage}"]) >= 0
    assert key_values(bench.send_and_wait(STAMP + PERIOD_NS, blank=True))["state"] == "degraded"


def test_percentiles_by_stage_are_in_results_and_diagnostics(bench):
    for n in range(3):
        bench.send_and_wait(STAMP + n * PERIOD_NS)
    bench.spin_for(1.2)
    values = key_values(bench.send_and_wait(STAMP + 3 * PERIOD_NS))
    for stage in ("latency", "transport", "decode", "preprocess", "refine", "assess", "publish"):
        assert 0 <= float(values[f"p50.{stage}"]) <= float(values[f"p99.{stage}"])
    assert float(values["p50.refine"]) == pytest.approx(0.012)
    bench.spin_until(lambda: "refine p95" in key_values(bench.diagnostics("latency")))
    registration = key_values(bench.diagnostics("registration"))
    assert registration["state"] == "tracking"
    assert int(registration["frames new"]) >= 3


def test_the_tracker_is_told_the_stamps_of_the_images(bench):
    for n in range(2):
        bench.send_and_wait(STAMP + n * PERIOD_NS)
    assert bench.tracker.stamps == [STAMP, STAMP + PERIOD_NS]


def test_registration_does_not_wait_for_pictures(bench, monkeypatch):
    """Even if a picture takes for ever, the results go on."""
    released = threading.Event()
    outputs = bench.node._pipeline._outputs
    monkeypatch.setattr(outputs, "publish_debug_images", lambda processed: released.wait(20.0))
    for n in range(3):
        assert key_values(bench.send_and_wait(STAMP + n * PERIOD_NS))["accepted"] == "true"
    released.set()
