"""Prefetching: order, errors, and the end of the thread."""

import threading
import time

import pytest

from fluoro_reg.training.prefetch import QUEUE_SIZE, Prefetcher


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fluoro_reg-batches"]


def test_results_come_in_order_from_the_first_and_the_queue_is_bounded():
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number * number

    with Prefetcher(make, 5) as batches:
        assert [next(batches) for _ in range(4)] == [25, 36, 49, 64]
        time.sleep(0.3)
        assert len(made) <= 4 + QUEUE_SIZE + 1
    assert not workers()


def test_an_error_is_raised_in_place_of_its_batch():
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("no such batch")
        return number

    with Prefetcher(make, 0) as batches:
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(ValueError, match="no such batch"):
            next(batches)
    assert not workers()


def test_the_thread_ends_when_the_consumer_fails():
    with pytest.raises(KeyError), Prefetcher(lambda number: number, 0):
        raise KeyError
    assert not workers()
