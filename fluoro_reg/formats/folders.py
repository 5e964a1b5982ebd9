"""Output folders of commands. Only new or empty folders are written, so that no file of the user is overwritten."""

from pathlib import Path

from fluoro_reg.errors import InputError


def create_empty_folder(out_folder: Path | str) -> Path:
    """Create a folder if it does not exist, and return it.

    Raises:
        InputError: It exists and is not an empty folder.
    """
    folder = Path(out_folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder.name} is not empty; give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
