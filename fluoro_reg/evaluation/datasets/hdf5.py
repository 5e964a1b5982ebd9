"""Strict reading of HDF5: what is not there, or is of another shape, is named with its path and its file.

Files of gigabytes arrive cut off, and there are several that look alike (other resolutions, other releases): a loader that goes
on regardless would fail somewhere else, or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fluoro_reg.errors import InputError


@contextmanager
def hdf5_file(path: Path | str) -> Iterator[Any]:
    """The root group (h5py.File) of a file, open for reading.

    Raises:
        InputError: h5py is not installed, no such file, or no whole HDF5 file.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError as error:
        raise InputError('reading this data set needs h5py: pip install "fluoro_reg[datasets]"') from error
    if not path.is_file():
        raise InputError(f"there is no file '{path.name}'; check the path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"'{path.name}' is no HDF5 file, or only a part of one; unpack it or download it again") from error
    with file:
        yield file


def read_group(parent: Any, name: str) -> Any:
    """The group (h5py.Group) at `name` below `parent`.

    Raises:
        InputError: it is missing, or no group.
    """
    found = parent.get(name)
    if found is None or not hasattr(found, "keys"):
        raise InputError(f"'{_file(parent)}' lacks the group {_path(parent, name)}; it is incomplete, or another file")
    return found


def read_array(parent: Any, name: str, shape: tuple[int | None, ...], dtype: type = np.float64) -> np.ndarray:
    """The numbers at `name` below `parent`; None in `shape` is any length. Axes of length 1 do not count: 3 x 1 is 3.

    Raises:
        InputError: missing, of another shape, no numbers, NaN, or unreadable because the file was cut off.
    """
    where = f"{_path(parent, name)} in '{_file(parent)}'"
    found = parent.get(name)
    if found is None or hasattr(found, "keys"):
        raise InputError(f"'{_file(parent)}' lacks the dataset {_path(parent, name)}; it is incomplete, or another file")
    size = tuple(n for n in found.shape if n != 1)
    if len(size) != len(shape) or any(wanted not in (None, n) for n, wanted in zip(size, shape, strict=True)):
        expected = " x ".join("any" if n is None else str(n) for n in shape) or "a single number"
        raise InputError(f"{where} must be {expected}, got {' x '.join(map(str, found.shape)) or 'a single number'}")
    if found.dtype.kind not in "biuf":
        raise InputError(f"{where} must hold numbers, got {found.dtype}")
    try:
        values: np.ndarray = np.asarray(np.squeeze(found[()]), dtype)
    except OSError as error:
        raise InputError(f"{where} cannot be read: the file is damaged or cut off; download it again") from error
    if not np.isfinite(values).all():
        raise InputError(f"{where} holds NaN or infinite numbers; download the file again")
    return values


def _file(group: Any) -> str:
    return Path(group.file.filename).name


def _path(group: Any, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"
