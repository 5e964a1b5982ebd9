"""Tensors as NumPy arrays, where a few numbers on the CPU are computed faster in NumPy than in torch.

Launching an operation of torch takes a few microseconds, and a registration has thousands on matrices of at most 6 x 6.
"""

import numpy as np
from torch import Tensor, float64


def arrays_of(*tensors: Tensor) -> tuple[np.ndarray, ...] | None:
    """Return views of float64 tensors as arrays; None if torch must compute: on a GPU, or for a gradient or a trace."""
    if any(tensor.dtype is not float64 for tensor in tensors):
        return None
    try:
        return tuple(tensor.numpy() for tensor in tensors)
    except (RuntimeError, TypeError):
        return None
