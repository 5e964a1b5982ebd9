"""Where the package's shared files are: the checkout, a pip installation or a colcon installation."""

import sys
from pathlib import Path

from fluoro_reg.errors import InputError


def config_folder() -> Path:
    """The `config/` folder: beside the package in a checkout, else `share/fluoro_reg/config` of the installation prefix."""
    package = Path(__file__).resolve().parent
    candidates = [package.parent / "config"]
    candidates += [parent / "share" / "fluoro_reg" / "config" for parent in (*package.parents, Path(sys.prefix))]
    for folder in candidates:
        if (folder / "methods").is_dir():
            return folder
    raise InputError("the folder config/methods of fluoro_reg was not found; reinstall the package")
