"""Files that a subcommand writes: refused before the work is done and not after, and never half explained."""

from collections.abc import Callable
from pathlib import Path

from fluoro_reg.errors import InputError


def check_writable(path: Path, suffixes: tuple[str, ...]) -> None:
    """Refuses an output file that cannot be what the user means.

    Raises:
        InputError: another suffix, or a folder that is not there.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path.name} must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"{path.name} is a folder; give a file to write")
    if not path.resolve().parent.is_dir():
        raise InputError(f"the folder of {path.name} does not exist; make it first")


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write(path)`; a full disk or a folder without permission is the user's to mend.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        write(path)
    except OSError as error:
        raise InputError(f"cannot write {path.name}: {error.strerror}; choose another place") from error
