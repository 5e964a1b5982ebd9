"""Threads for kernels that release the GIL, harmless to forks and to callers that are threads themselves.

The caller works along with its helpers and takes numbered pieces from a shared counter: no piece waits for a helper that is
busy elsewhere, so nested and concurrent calls cannot deadlock. A forked child has none of its parent's threads, hence a pool by
process.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

THREADS = torch.get_num_threads()  # as torch was told (OMP_NUM_THREADS); not what a caller makes of torch for a while
_PIECES_PER_THREAD = 4
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def distribute(work: Callable[[int, int], None], count: int) -> None:
    """Calls `work(first, last)` until 0 ... count are covered, on `THREADS` threads."""
    threads = min(THREADS, count)
    if threads <= 1:
        work(0, count)
        return
    pieces = min(count, threads * _PIECES_PER_THREAD)
    numbers = itertools.count()

    def help_out() -> None:
        while (piece := next(numbers)) < pieces:
            work(count * piece // pieces, count * (piece + 1) // pieces)

    helpers = [_pool(threads).submit(help_out) for _ in range(threads - 1)]
    try:
        help_out()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads - 1, thread_name_prefix="fluoro_reg-rays")
    return _pools[key]
