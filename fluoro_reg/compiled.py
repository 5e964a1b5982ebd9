"""How the package's numba kernels are compiled.

They release the GIL. Numba's `parallel` is not used, as its threading layers crash in forked children and when two Python
threads enter; `fluoro_reg.rendering.threads` distributes the work instead. `no_type_check` on a kernel keeps a run-time type
checker from wrapping it, as numba would compile the wrapper.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

# "nnan" and "ninf" are left out, as rays within a plane have infinite slopes and comparisons with these must be right.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
jit_inline: Any = njit(inline="always", **_OPTIONS)


def jit_cached(function: Callable) -> Any:
    """Compile a function, with a cache on disk where that is possible."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither the package nor the home folder is writable: compile in every process
        return njit(**_OPTIONS)(function)
