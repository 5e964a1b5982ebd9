"""What the readers of volume files share: the libraries, which are an optional extra, and the error for a damaged file."""

from types import ModuleType

import numpy as np
from jaxtyping import Float32

from fluoro_reg.errors import InputError

_INSTALL = 'pip install "fluoro_reg[formats]"'


def import_extra(module: str, formats: str) -> ModuleType:
    """Import a library that reads `formats`.

    Raises:
        InputError: It is not installed.
    """
    try:
        return __import__(module)
    except ImportError as error:
        raise InputError(f"reading {formats} needs {module}: {_INSTALL}") from error


def damaged_file_error(where: str, kind: str) -> InputError:
    """Return the error for a file that a library cannot read."""
    return InputError(f"{where} cannot be read as {kind}: the file is damaged or truncated; export it again")


def without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without dimensions of size one beyond the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return tuple(int(n) for n in shape)


def writable_copy(values: np.ndarray) -> Float32[np.ndarray, "slices rows columns"]:
    """Return a contiguous copy in [k, j, i] order."""
    return np.array(values, dtype=np.float32, order="C")


def surplus_warnings(stated: int, found: int, name: str) -> list[str]:
    """Return a warning if a file holds more bytes than its header states: the size in the header may be wrong."""
    if found <= stated:
        return []
    return [f"'{name}' holds {found} bytes, but its header describes {stated}: the rest is ignored; check the stated size"]
