"""The services `~/reset`, `~/register_once`, `~/enable` and `~/save_debug`."""

import threading

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.ros_bench import FakeTracker
from helpers.ros_probe import FIRST_STAMP, FRAME_NS
from std_srvs.srv import SetBool, Trigger

pytestmark = pytest.mark.ros


def test_reset_discards_the_pose_of_the_frame_being_processed(make_bench):
    tracker, release = FakeTracker(), threading.Event()
    tracker.before_result = lambda: release.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.spin_until(lambda: len(tracker.images) == 1)
    assert bench.call(Trigger, "reset").success
    release.set()
    bench.spin_until(lambda: len(bench.results()) == 1)
    assert "reset" in bench.results()[0]["reason"]
    assert not bench.transforms()
    assert bench.send_and_wait(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK
    assert tracker.resets == 1


def test_a_disabled_node_ignores_images_except_for_register_once(bench):
    assert bench.call(SetBool, "enable", SetBool.Request(data=False)).success
    bench.send(FIRST_STAMP)
    bench.spin_for(0.3)
    assert not bench.results()
    status = bench.diagnostics("registration")
    assert (status.level, status.message.split(":")[0]) == (DiagnosticStatus.WARN, "disabled through ~/enable")
    assert bench.call(Trigger, "register_once").success
    assert bench.send_and_wait(FIRST_STAMP + FRAME_NS).level == DiagnosticStatus.OK
    bench.send(FIRST_STAMP + 2 * FRAME_NS)
    bench.spin_for(0.3)
    assert len(bench.results()) == 1
    assert bench.call(SetBool, "enable", SetBool.Request(data=True)).success
    assert bench.send_and_wait(FIRST_STAMP + 3 * FRAME_NS).level == DiagnosticStatus.OK


def test_disabling_discards_the_current_and_the_waiting_frame(make_bench):
    tracker, release = FakeTracker(), threading.Event()
    tracker.before_result = lambda: release.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.spin_until(lambda: len(tracker.images) == 1)
    bench.send(FIRST_STAMP + FRAME_NS)
    bench.spin_for(0.2)
    assert bench.call(SetBool, "enable", SetBool.Request(data=False)).success
    release.set()
    bench.spin_for(0.5)
    assert not bench.transforms()
    assert not any(message.data for message in bench.received["valid"])
    assert len(tracker.images) == 1


def test_services_of_an_inactive_node_fail_with_a_message(make_bench):
    response = make_bench().call(Trigger, "register_once")
    assert (response.success, response.message) == (False, "the node is not active")


def test_save_debug_writes_a_bundle_that_can_be_registered(make_bench, tmp_path):
    bench = make_bench(debug__folder=tmp_path)
    bench.activate()
    assert bench.call(Trigger, "save_debug").message == "no frame has been registered yet; publish an image first"
    bench.send_and_wait(FIRST_STAMP)
    response = bench.call(Trigger, "save_debug")
    assert response.success
    assert str(tmp_path) not in response.message
    bundle = tmp_path / str(FIRST_STAMP)
    assert {path.name for path in bundle.iterdir()} >= {"image.npy", "camera.json", "result.json"}


def test_save_debug_without_a_folder_names_the_parameter_to_set(bench):
    bench.send_and_wait(FIRST_STAMP)
    response = bench.call(Trigger, "save_debug")
    assert not response.success
    assert "debug.folder" in response.message
