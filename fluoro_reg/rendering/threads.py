"""Parallel loops over kernels that release the GIL, safe in forked processes and when several threads call them at once.

The caller takes numbered pieces of work from a counter that it shares with its worker threads. No piece is bound to a worker
that may be busy elsewhere, so nested and concurrent calls cannot deadlock. A forked child has none of its parent's threads, so
there is one pool per process.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

THREADS = torch.get_num_threads()  # at import (OMP_NUM_THREADS), as callers may change torch's setting for a while
_PIECES_PER_THREAD = 4
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def parallel_for(work: Callable[[int, int], None], count: int) -> None:
    """Call `work(first, last)` on ranges that together cover 0 ... count, on up to `THREADS` threads."""
    threads = min(THREADS, count)
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
        _pools[key] = ThreadPoolExecutor(threads - 1, thread_name_prefix="fluoro_reg-rays")
    return _pools[key]
