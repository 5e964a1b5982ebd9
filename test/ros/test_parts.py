"""Parts of the node that need no ROS graph: pairing, stamp checks, worker, input monitor."""

import threading
import time

import pytest

from fluoro_reg.ros.input_monitor import InputMonitor
from fluoro_reg.ros.pairing import StampPairing
from fluoro_reg.ros.stamps import FRAMES_TO_RESTART, StampChecker, StampStatus
from fluoro_reg.ros.worker import LatestWorker

SECOND = 1_000_000_000
NOW = 1000 * SECOND


def test_messages_with_equal_stamps_pair_in_either_order():
    pairing = StampPairing()
    assert pairing.add_image(1, "image 1") is None
    assert pairing.add_info(2, "info 2") is None
    assert pairing.add_info(1, "info 1") == ("image 1", "info 1")
    assert pairing.add_image(2, "image 2") == ("image 2", "info 2")
    assert pairing.add_info(1, "info 1 again") is None


def test_unpaired_messages_are_pushed_out_and_counted():
    pairing = StampPairing(max_images=2, max_infos=2)
    for stamp in (1, 2, 3):
        pairing.add_image(stamp, f"image {stamp}")
        pairing.add_info(stamp + 10, f"info {stamp + 10}")
    assert pairing.unpaired_images == 1
    assert pairing.add_info(1, "info 1") is None
    assert pairing.add_image(11, "image 11") is None
    assert pairing.add_image(13, "image 13") == ("image 13", "info 13")


def check_all(checker, *stamps):
    return [checker.check(stamp, NOW).name for stamp in stamps]


def test_only_newer_stamps_are_new():
    checker = StampChecker(1.0, 0.2)
    assert check_all(checker, 0, 5, 5, 4, 6, 5) == ["NO_STAMP", "NEW", "DUPLICATE", "LATE", "NEW", "LATE"]


def test_stamps_that_stay_in_the_past_restart_but_single_late_ones_do_not():
    checker = StampChecker(1.0, 0.2)
    checker.check(100 * SECOND, NOW)
    assert check_all(checker, 10 * SECOND, 100 * SECOND + 1, 11 * SECOND, 12 * SECOND) == ["LATE", "NEW", "LATE", "LATE"]
    assert checker.check(13 * SECOND, NOW) is StampStatus.RESTARTED
    assert check_all(checker, 14 * SECOND, 13 * SECOND + 1) == ["NEW", "LATE"]


def test_a_repeated_old_stamp_never_restarts():
    checker = StampChecker(1.0, 0.2)
    checker.check(100 * SECOND, NOW)
    assert check_all(checker, *[10 * SECOND] * (2 * FRAMES_TO_RESTART)) == ["LATE"] * (2 * FRAMES_TO_RESTART)


def test_a_recording_shorter_than_the_limit_restarts_when_no_newer_frame_has_come_for_that_long():
    now_s = 0.0
    checker = StampChecker(1.0, 0.2, steady_s=lambda: now_s)
    loop = [10 * SECOND + n * SECOND // 10 for n in range(5)]
    assert check_all(checker, *loop, *loop) == ["NEW"] * 5 + ["LATE"] * 4 + ["DUPLICATE"]
    now_s = 1.1
    assert check_all(checker, *loop) == ["LATE", "LATE", "RESTARTED", "NEW", "NEW"]


def test_a_stamp_in_the_future_is_refused_and_does_not_make_later_ones_late():
    checker = StampChecker(1.0, 0.2)
    assert check_all(checker, NOW + SECOND, NOW - SECOND, NOW + SECOND // 10) == ["FUTURE", "NEW", "NEW"]


def test_without_a_time_on_clock_no_stamp_can_be_judged():
    assert StampChecker(1.0, 0.2).check(SECOND, 0) is StampStatus.NO_CLOCK


def test_after_the_clock_went_back_the_next_stamp_is_new():
    checker = StampChecker(1.0, 0.2)
    assert check_all(checker, 100 * SECOND, 99 * SECOND) == ["NEW", "LATE"]
    checker.restart()
    assert check_all(checker, 99 * SECOND) == ["NEW"]


def test_the_worker_processes_the_newest_item_and_counts_dropped_ones():
    done, release, working = [], threading.Event(), threading.Event()

    def work(item):
        working.set()
        release.wait(5)
        done.append(item)

    worker = LatestWorker(work, "test")
    worker.start()
    worker.put(1)
    assert working.wait(5)
    for item in (2, 3, 4):
        worker.put(item)
    release.set()
    end = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    assert done == [1, 4]
    assert worker.dropped == 2
    assert worker.stop(5)


def test_a_stopped_worker_finishes_the_current_item_and_drops_the_waiting_one():
    done, release, working = [], threading.Event(), threading.Event()

    def work(item):
        working.set()
        release.wait(5)
        done.append(item)

    worker = LatestWorker(work, "test")
    worker.start()
    worker.put(1)
    assert working.wait(5)
    worker.put(2)
    assert not worker.stop(0.05)
    release.set()
    assert worker.stop(5)
    assert done == [1]
    worker.start()
    worker.put(3)
    end = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    assert done == [1, 3]
    assert worker.stop(5)


@pytest.mark.parametrize(
    ("images", "infos", "pairs", "expected"),
    [
        (3, 0, 0, "/image has no CameraInfo on /camera_info for 0 s (images 3, infos 0, pairs 0)"),
        (0, 3, 0, "no image on /image for 0 s (images 0, infos 3, pairs 0)"),
        (3, 3, 0, "never have the same stamp"),
        (3, 3, 1, ""),
        (0, 0, 0, ""),
    ],
)
def test_the_monitor_reports_which_messages_are_missing(images, infos, pairs, expected):
    monitor = InputMonitor(0.0, "/image", "/camera_info")
    for count, count_message in ((images, monitor.count_image), (infos, monitor.count_info), (pairs, monitor.count_pair)):
        for _ in range(count):
            count_message()
    assert monitor.check() is bool(expected)
    assert expected in monitor.warning


def test_the_monitor_gives_no_warning_before_the_timeout():
    monitor = InputMonitor(60.0, "/image", "/camera_info")
    monitor.count_image()
    assert not monitor.check()
    assert not monitor.warning
