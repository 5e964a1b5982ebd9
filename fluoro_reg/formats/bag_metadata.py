"""metadata.yaml of a rosbag2: whether it can be used, and which of the files beside it it does not know."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from fluoro_reg.config import YAML_ERRORS

METADATA = "metadata.yaml"
_STORAGE_IDENTIFIERS = ("sqlite3", "mcap")
_NEWEST_VERSION = 9


def metadata_problem(folder: Path) -> str | None:
    """Return why the metadata.yaml of a bag cannot be used, as the rest of a sentence about it; None if it can."""
    if not (folder / METADATA).is_file():
        return "is missing"
    content = _content(folder)
    files, storage = content.get("relative_file_paths"), content.get("storage_identifier")
    if not isinstance(files, list) or not files:
        return "is damaged or lists no file"
    if storage not in _STORAGE_IDENTIFIERS:
        return "names no known storage (storage_identifier)" if storage else "has an empty storage_identifier"
    names = [PurePath(str(file)).name for file in files]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        return f"lists {len(names)} files, of which {len(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if any((".mcap" in name) != (storage == "mcap") for name in names):
        return f"names the storage {storage}, which its files are not"
    version = content.get("version")
    if not isinstance(version, int) or version > _NEWEST_VERSION:
        return "is of an unknown version"
    return None


def unlisted_files(folder: Path, files: Sequence[Path]) -> int:
    """Return how many of the storage files in a folder its metadata.yaml does not list."""
    listed = {PurePath(str(file)).name for file in _content(folder)["relative_file_paths"]}
    listed |= {name.removesuffix(".zstd") for name in listed}
    return sum(file.name not in listed for file in files)


def _content(folder: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load((folder / METADATA).read_text(encoding="utf-8"))
    except (OSError, *YAML_ERRORS):
        return {}
    information = content.get("rosbag2_bagfile_information") if isinstance(content, dict) else None
    return information if isinstance(information, dict) else {}
