"""Files that a subcommand writes: checked before the work begins, with clear errors when writing fails."""

from collections.abc import Callable
from pathlib import Path

from fluoro_reg.errors import InputError


def check_writable(path: Path, suffixes: tuple[str, ...]) -> None:
    """Check that `path` can be an output file.

    Args:
        path: The file to write later.
        suffixes: The allowed suffixes, in lower case.

    Raises:
        InputError: The suffix is not allowed, `path` is a folder, or its folder does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path.name} must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"{path.name} is a folder; give a file to write")
    if not path.resolve().parent.is_dir():
        raise InputError(f"the folder of {path.name} does not exist; create it first")


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(path)`.

    Raises:
        InputError: The file cannot be written, for example because the disk is full or permission is missing.
    """
    try:
        write(path)
    except OSError as error:
        raise InputError(f"cannot write {path.name}: {error.strerror}; choose another location") from error
