"""Strict reading of HDF5: a missing group or an array of the wrong shape is an error that names its path and file.

Downloads of several gigabytes may be truncated, and similar files exist (other resolutions, other releases). Without strict
checks, reading them would fail later with an unclear error, or give wrong data.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fluoro_reg.errors import InputError


@contextmanager
def open_hdf5(path: Path | str) -> Iterator[Any]:
    """Open a file for reading and yield its root group (h5py.File).

    Raises:
        InputError: h5py is not installed, or the file is missing, not HDF5 or truncated.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError as error:
        raise InputError('reading this data set needs h5py; run pip install "fluoro_reg[datasets]"') from error
    if not path.is_file():
        raise InputError(f"there is no file '{path.name}'; check the path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"'{path.name}' is not an HDF5 file or is incomplete; unpack it or download it again") from error
    with file:
        yield file


def read_group(parent: Any, name: str) -> Any:
    """Return the group (h5py.Group) at `name` below `parent`.

    Raises:
        InputError: It is missing or not a group.
    """
    found = parent.get(name)
    if found is None or not hasattr(found, "keys"):
        raise InputError(f"'{_file(parent)}' lacks the group {_path(parent, name)}; download the complete file")
    return found


def read_array(parent: Any, name: str, shape: tuple[int | None, ...], dtype: type = np.float64) -> np.ndarray:
    """Return the array at `name` below `parent`.

    Args:
        parent: The group to read from.
        name: Path of the dataset within the group.
        shape: The expected shape, in which None is any length. Axes of length 1 are removed: 3 x 1 matches (3,).
        dtype: The type of the returned array.

    Raises:
        InputError: The dataset is missing, has another shape, is not numeric, contains NaN or infinite values, or cannot
            be read.
    """
    where = f"{_path(parent, name)} in '{_file(parent)}'"
    found = parent.get(name)
    if found is None or hasattr(found, "keys"):
        raise InputError(f"'{_file(parent)}' lacks the dataset {_path(parent, name)}; download the complete file")
    size = tuple(n for n in found.shape if n != 1)
    if len(size) != len(shape) or any(expected_n not in (None, n) for n, expected_n in zip(size, shape, strict=True)):
        expected = " x ".join("any" if n is None else str(n) for n in shape) or "a single number"
        actual = " x ".join(map(str, found.shape)) or "a single number"
        raise InputError(f"{where} must be {expected}, got {actual}; download the published file")
    if found.dtype.kind not in "biuf":
        raise InputError(f"{where} must hold numbers, got {found.dtype}; download the published file")
    try:
        values: np.ndarray = np.asarray(np.squeeze(found[()]), dtype)
    except OSError as error:
        raise InputError(f"{where} cannot be read because the file is damaged or truncated; download it again") from error
    if not np.isfinite(values).all():
        raise InputError(f"{where} holds NaN or infinite values; download the file again")
    return values


def _file(group: Any) -> str:
    return Path(group.file.filename).name


def _path(group: Any, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"
