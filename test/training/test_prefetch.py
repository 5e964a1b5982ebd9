"""Batches made ahead: in order, with their errors, without a thread that stays."""

import threading
import time

import pytest

from fluoro_reg.training.prefetch import AHEAD, Prefetched


def worker() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fluoro_reg-batches"]


def test_in_order_from_where_it_was_told_and_only_so_far_ahead():
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number * number

    with Prefetched(make, 5) as batches:
        assert [next(batches) for _ in range(4)] == [25, 36, 49, 64]
        time.sleep(0.3)
        assert len(made) <= 4 + AHEAD + 1
    assert not worker()


def test_an_error_comes_where_its_batch_would_have_been():
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("no such batch")
        return number

    with Prefetched(make, 0) as batches:
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(ValueError, match="no such batch"):
            next(batches)
    assert not worker()


def test_the_thread_ends_though_the_reader_fails():
    with pytest.raises(KeyError), Prefetched(lambda number: number, 0):
        raise KeyError
    assert not worker()
