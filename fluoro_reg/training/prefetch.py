"""Prefetching: a thread makes batches ahead, so that rendering uses one core while the network is trained on another."""

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
QUEUE_SIZE = 3
_POLL_S = 0.1


class Prefetcher(Generic[T]):
    """An iterator over `make(first)`, `make(first + 1)`, ..., computed ahead by a thread.

    Use it as a context manager, which ends the thread. An exception of `make` is raised in place of its result.
    """

    def __init__(self, make: Callable[[int], T], first: int) -> None:
        self._make, self._first = make, first
        self._ready: queue.Queue[T | BaseException] = queue.Queue(QUEUE_SIZE)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fluoro_reg-batches", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._results()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()

    def _results(self) -> Iterator[T]:
        while True:
            result = self._ready.get()
            if isinstance(result, BaseException):
                raise result
            yield result

    def _work(self) -> None:
        torch.set_num_threads(1)  # affects this thread only
        number = self._first
        while not self._stopped.is_set():
            try:
                result: T | BaseException = self._make(number)
            except BaseException as error:
                result = error
            self._put(result)
            if isinstance(result, BaseException):
                return
            number += 1

    def _put(self, result: "T | BaseException") -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put(result, timeout=_POLL_S)
                return
            except queue.Full:
                pass
