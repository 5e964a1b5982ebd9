"""The services `~/reset`, `~/register_once`, `~/enable` and `~/save_debug`."""

import threading

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import FIRST_STAMP, FRAME_NS, FakeTracker
from std_srvs.srv import SetBool, Trigger

pytestmark = pytest.mark.ros


def test_reset_discards_the_pose_of_the_frame_being_processed(make_bench):
    tracker, may_go_on = FakeTracker(), threading.Event()
    tracker.before_answer = lambda: may_go_on.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.until(lambda: len(tracker.images) == 1)
    assert bench.call(Trigger, "reset").success
    may_go_on.set()
    bench.until(lambda: len(bench.results()) == 1)
    assert "reset" in bench.results()[0]["reason"]
    assert not bench.transforms()
    assert bench.answered(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK
    assert tracker.resets == 1


def test_a_disabled_node_ignores_images_except_for_register_once(bench):
    assert bench.call(SetBool, "enable", SetBool.Request(data=False)).success
    bench.send(FIRST_STAMP)
    bench.spin(0.3)
    assert not bench.results()
    assert bench.call(Trigger, "register_once").success
    assert bench.answered(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK
    bench.send(FIRST_STAMP + 2 * FRAME_NS)
    bench.spin(0.3)
    assert len(bench.results()) == 1
    assert bench.call(SetBool, "enable", SetBool.Request(data=True)).success
    assert bench.answered(FIRST_STAMP + 3 * FRAME_NS).level == DiagnosticStatus.OK


def test_disabling_discards_the_current_and_the_waiting_frame(make_bench):
    tracker, may_go_on = FakeTracker(), threading.Event()
    tracker.before_answer = lambda: may_go_on.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.until(lambda: len(tracker.images) == 1)
    bench.send(FIRST_STAMP + FRAME_NS)
    bench.spin(0.2)
    assert bench.call(SetBool, "enable", SetBool.Request(data=False)).success
    may_go_on.set()
    bench.spin(0.5)
    assert not bench.transforms()
    assert not any(message.data for message in bench.heard["valid"])
    assert len(tracker.images) == 1


def test_services_of_an_inactive_node_fail_with_a_message(make_bench):
    answer = make_bench().call(Trigger, "register_once")
    assert (answer.success, answer.message) == (False, "the node is not active")


def test_save_debug_writes_a_bundle_that_can_be_registered(make_bench, tmp_path):
    bench = make_bench(debug__folder=tmp_path)
    bench.activate()
    assert bench.call(Trigger, "save_debug").message == "no frame was registered yet"
    bench.answered(FIRST_STAMP)
    answer = bench.call(Trigger, "save_debug")
    assert answer.success
    assert str(tmp_path) not in answer.message
    bundle = tmp_path / str(FIRST_STAMP)
    assert {path.name for path in bundle.iterdir()} >= {"image.npy", "camera.json", "result.json"}


def test_save_debug_without_a_folder_names_the_parameter_to_set(bench):
    bench.answered(FIRST_STAMP)
    answer = bench.call(Trigger, "save_debug")
    assert not answer.success
    assert "debug.folder" in answer.message
