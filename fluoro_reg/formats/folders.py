"""Folders that a command writes: new or empty ones only, so that nothing of the user's is overwritten."""

from pathlib import Path

from fluoro_reg.errors import InputError


def new_folder(out_folder: Path | str) -> Path:
    """The folder, made if need be.

    Raises:
        InputError: it holds something already.
    """
    folder = Path(out_folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder.name} holds something already; give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
