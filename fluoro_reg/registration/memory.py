"""A GPU that other programs use, too, may run out of memory in the middle of a registration.

The registration is then begun once more, and renders few views at once. Every view is rendered on its own, so that the results
are the same within the optimiser's tolerance.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor

from fluoro_reg.geometry import RigidTransform

OUT_OF_MEMORY = "the memory does not suffice for this CT and image; end other programs on this device, or set device to cpu"
FEW = 4  # views rendered at once after the memory did not suffice

_at_once: ContextVar[int | None] = ContextVar("views rendered at once", default=None)
T = TypeVar("T")


def retried_smaller(call: Callable[[], T], free: Callable[[], object]) -> T:
    """Call; if the GPU's memory does not suffice, free what is kept there for later and call once more with few views at once.

    Args:
        call: What needs memory.
        free: Drops what the caller keeps there; what torch keeps is freed afterwards.

    Raises:
        torch.OutOfMemoryError: It does not suffice then either.
    """
    try:
        return call()
    except torch.OutOfMemoryError:
        pass  # and not here: until the exception is gone, it holds what the call had on the GPU
    free()
    torch.cuda.empty_cache()
    before = _at_once.set(FEW)
    try:
        return call()
    finally:
        _at_once.reset(before)


def parts_of(poses: RigidTransform) -> list[RigidTransform]:
    """A batch of poses in one part or, while the memory is short, in parts of a few."""
    n, limit = len(poses.translation), _at_once.get()
    if limit is None or n <= limit:
        return [poses]
    return [poses[begin : begin + limit] for begin in range(0, n, limit)]


def in_parts(render: Callable[[RigidTransform], Sequence[Tensor]], poses: RigidTransform) -> list[Tensor]:
    """The tensors that `render` makes of a batch of poses, on the CPU; see `parts_of`."""
    made = [[tensor.cpu() for tensor in render(part)] for part in parts_of(poses)]
    return made[0] if len(made) == 1 else [torch.cat(tensors) for tensors in zip(*made, strict=True)]
