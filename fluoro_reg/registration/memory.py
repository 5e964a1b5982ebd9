"""A GPU that other programs use, too, may run out of memory in the middle of a registration."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def with_freed_memory(call: Callable[[], T]) -> T:
    """Call; if the GPU's memory does not suffice, free what torch keeps there for later and call once more.

    Raises:
        torch.OutOfMemoryError: It does not suffice then either.
    """
    try:
        return call()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return call()
