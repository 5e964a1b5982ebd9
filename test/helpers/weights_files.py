"""Weights files whose header or tensors differ from what the program wrote."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fluoro_reg.networks.safetensors_file import write_tensors


def header_of(path: Path) -> dict[str, Any]:
    """Return the header that the program wrote."""
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["fluoro_reg"])


def with_changes(path: Path, header: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None) -> Path:
    """Write a copy beside a weights file, with other header values and tensors added or replaced."""
    changed = path.with_name("changed.safetensors")
    write_tensors(changed, load_file(path) | (tensors or {}), header_of(path) | (header or {}))
    return changed
