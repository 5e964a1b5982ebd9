"""Timing in turn, so that other load on the machine and changes of its clock affect all entries alike.

Every entry runs once to warm up (compile, tune, touch memory), which does not count. In every round each entry then has a turn,
in which it runs once, or several times if it is fast, until it has had its number of rounds or used up its budget of seconds.
Each has at least one counted run. Results are medians.
"""

import time
from collections.abc import Callable, Mapping

import torch

_TURN_S, _TURN_RUNS = 0.2, 10

Stopwatch = Callable[[Callable[[], object]], float]


def stopwatch(device: str) -> Stopwatch:
    """Return a function that times one call in seconds, on CUDA between two events on the stream."""
    return _cuda_seconds if device == "cuda" else _cpu_seconds


def time_in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int, budget_s: float, seconds_of: Stopwatch
) -> dict[str, list[float]]:
    """Return the seconds of every counted run of every entry."""
    runs: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        seconds_of(work)
    for _ in range(rounds):
        for name, work in works.items():
            if sum(runs[name]) < budget_s:
                runs[name] += _run_turn(work, seconds_of)
    return runs


def _run_turn(work: Callable[[], object], seconds_of: Stopwatch) -> list[float]:
    times = [seconds_of(work)]
    while sum(times) < _TURN_S and len(times) < _TURN_RUNS:
        times.append(seconds_of(work))
    return times


def _cpu_seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _cuda_seconds(work: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000
