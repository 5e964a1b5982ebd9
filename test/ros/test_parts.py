"""The node's parts that need no ROS graph: pairing, order of stamps, mailbox, input monitor."""

import threading
import time

import pytest

from fluoro_reg.ros.pairing import StampPairing
from fluoro_reg.ros.stamps import FRAMES_TO_RESTART, StampOrder, StampVerdict
from fluoro_reg.ros.statistics import InputMonitor
from fluoro_reg.ros.worker import LatestWorker

SECOND = 1_000_000_000


def test_a_pair_needs_the_same_stamp_in_either_order():
    pairing = StampPairing()
    assert pairing.add_image(1, "image 1") is None
    assert pairing.add_info(2, "info 2") is None
    assert pairing.add_info(1, "info 1") == ("image 1", "info 1")
    assert pairing.add_image(2, "image 2") == ("image 2", "info 2")
    assert pairing.add_info(1, "info 1 again") is None


def test_what_finds_no_partner_is_pushed_out_and_counted():
    pairing = StampPairing(waiting_images=2, waiting_infos=2)
    for stamp in (1, 2, 3):
        pairing.add_image(stamp, f"image {stamp}")
        pairing.add_info(stamp + 10, f"info {stamp + 10}")
    assert pairing.unpaired_images == 1
    assert pairing.add_info(1, "info 1") is None
    assert pairing.add_image(11, "image 11") is None
    assert pairing.add_image(13, "image 13") == ("image 13", "info 13")


def judged(order, *stamps):
    return [order.judge(stamp).name for stamp in stamps]


def test_only_newer_stamps_are_new():
    order = StampOrder(restart_after_s=1.0)
    assert judged(order, 0, 5, 5, 4, 6, 5) == ["NO_STAMP", "NEW", "DUPLICATE", "LATE", "NEW", "LATE"]


def test_stamps_that_stay_in_the_past_begin_anew_but_stragglers_do_not():
    order = StampOrder(restart_after_s=1.0)
    order.judge(100 * SECOND)
    assert judged(order, 10 * SECOND, 100 * SECOND + 1, 11 * SECOND, 12 * SECOND) == ["LATE", "NEW", "LATE", "LATE"]
    assert order.judge(13 * SECOND) is StampVerdict.RESTARTED
    assert judged(order, 14 * SECOND, 13 * SECOND + 1) == ["NEW", "LATE"]


def test_repeated_old_stamps_never_begin_anew():
    order = StampOrder(restart_after_s=1.0)
    order.judge(100 * SECOND)
    assert judged(order, *[10 * SECOND] * (2 * FRAMES_TO_RESTART)) == ["LATE"] * (2 * FRAMES_TO_RESTART)


def test_the_worker_takes_the_newest_and_counts_what_it_dropped():
    done, may_go_on, working = [], threading.Event(), threading.Event()

    def work(item):
        working.set()
        may_go_on.wait(5)
        done.append(item)

    worker = LatestWorker(work, "test")
    worker.start()
    worker.put(1)
    assert working.wait(5)
    for item in (2, 3, 4):
        worker.put(item)
    may_go_on.set()
    end = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    assert done == [1, 4]
    assert worker.dropped == 2
    assert worker.stop(5)


def test_a_stopped_worker_finishes_the_item_in_work_and_forgets_the_waiting_one():
    done, may_go_on, working = [], threading.Event(), threading.Event()

    def work(item):
        working.set()
        may_go_on.wait(5)
        done.append(item)

    worker = LatestWorker(work, "test")
    worker.start()
    worker.put(1)
    assert working.wait(5)
    worker.put(2)
    assert not worker.stop(0.05)
    may_go_on.set()
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
    ("images", "infos", "pairs", "words"),
    [
        (3, 0, 0, "/image has no CameraInfo on /camera_info for 0 s (images 3, infos 0, pairs 0)"),
        (0, 3, 0, "no image on /image for 0 s (images 0, infos 3, pairs 0)"),
        (3, 3, 0, "never have the same stamp"),
        (3, 3, 1, ""),
        (0, 0, 0, ""),
    ],
)
def test_the_monitor_says_what_is_missing(images, infos, pairs, words):
    monitor = InputMonitor(0.0, "/image", "/camera_info")
    for count, note in ((images, monitor.image), (infos, monitor.info), (pairs, monitor.pair)):
        for _ in range(count):
            note()
    assert monitor.check() is bool(words)
    assert words in monitor.warning


def test_the_monitor_is_silent_until_its_time_is_over():
    monitor = InputMonitor(60.0, "/image", "/camera_info")
    monitor.image()
    assert not monitor.check()
    assert not monitor.warning
