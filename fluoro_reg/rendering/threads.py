"""Parallel loops over kernels that release the GIL, safe in forked processes and when several threads call them at once.

The caller takes numbered pieces of work from a counter that it shares with its worker threads. No piece is bound to a worker
that may be busy elsewhere, so nested and concurrent calls cannot deadlock. A forked child has none of its parent's threads, so
there is one pool per process.
"""

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

THREADS = torch.get_num_threads()  # at import (OMP_NUM_THREADS), as callers may change torch's setting for a while
_PIECES_PER_THREAD = 4
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


class StoppedError(Exception):
    """Raised in the thread of background work that is not wanted any more."""


class _Background(threading.local):
    """Of the current thread: whether its work is wanted no more; None in a thread that does no background work."""

    is_stopped: Callable[[], bool] | None = None


_background = _Background()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch on one thread within the context.

    torch's threads wait for each other at every small operation: on a machine with any other load, images of 128 pixels
    take ten times as long on two threads as on one. The loops of this module have threads of their own, which never wait.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def in_background(is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Let the loops of this thread take half of the threads, and end with `StoppedError` when `is_stopped` says so.

    The other half is for work that must not wait. Priorities of the operating system would not help: a thread of a low
    priority that is interrupted while it holds the GIL holds up all the others.
    """
    _background.is_stopped = is_stopped
    try:
        yield
    finally:
        _background.is_stopped = None


def parallel_for(work: Callable[[int, int], None], count: int) -> None:
    """Call `work(first, last)` on ranges that together cover 0 ... count, on up to `THREADS` threads.

    Raises:
        StoppedError: This thread works in the background, and its work is not wanted any more.
    """
    threads = min(THREADS, count)
    if _background.is_stopped is not None:
        if _background.is_stopped():
            raise StoppedError
        threads = min(max(1, THREADS // 2), count)
    if threads <= 1:
        work(0, count)
        return
    pieces = min(count, threads * _PIECES_PER_THREAD)
    counter = itertools.count()

    def run_pieces() -> None:
        while (piece := next(counter)) < pieces:
            work(count * piece // pieces, count * (piece + 1) // pieces)

    workers = [_pool(threads).submit(run_pieces) for _ in range(threads - 1)]
    try:
        run_pieces()
    finally:
        for worker in workers:
            if not worker.cancel():
                worker.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    key = (os.getpid(), threads)
    if key not in _pools:
        # what a worker calls of torch must not start threads of its own; threads that begin to use torch later inherit this
        _pools[key] = ThreadPoolExecutor(threads - 1, "fluoro_reg-rays", torch.set_num_threads, (1,))
    return _pools[key]
