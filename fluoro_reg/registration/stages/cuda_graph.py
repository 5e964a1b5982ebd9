"""Sequences of torch operations as CUDA graphs: launched from Python they would take many times as long as they compute."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_WARM_UP_RUNS = 3  # kernels allocate and compile in their first runs, which must not happen during capture


def captured(run: Callable[[], T], device: torch.device) -> tuple[Any, T]:
    """Return a graph of the operations in `run`, and their results, in memory that each replay overwrites.

    Other threads may use the device meanwhile: a search beside tracking does.
    """
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP_RUNS):
            run()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = run()
    return graph, results
