"""safetensors files with a JSON header: the only kind of weights that is read, because unpickling runs its author's code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fluoro_reg.errors import InputError

_PICKLE = (b"\x80", b"PK\x03\x04")  # a pickle's protocol mark; torch.save's zip archive around one
_JSON_BEGINS = b"{"  # after eight bytes of its length, which may be any, a pickle's mark too
_HEADER = "fluoro_reg"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes beside the place first, so that whoever reads meanwhile, or a full disk, finds the old file whole."""
    beside = path.with_name(f".{path.name}.part")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    beside.write_bytes(save(contiguous, metadata={_HEADER: json.dumps(header, allow_nan=False)}))
    beside.replace(path)


def read_tensors(path: Path | str, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file whose header says `kind`.

    Raises:
        InputError: no such file, a pickle, truncated, another program's, or another kind of ours.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path.name} is a folder; give one safetensors file")
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head.startswith(_PICKLE) and head[8:] != _JSON_BEGINS:
            raise InputError(f"{path.name} is a pickle, which can run any code when read; give weights as safetensors")
        with safe_open(path, framework="pt") as file:
            header = _header(file.metadata())
            if header.get("kind") != kind:
                raise InputError(f"{path.name} was not written by this program as {kind}; make it by 'fluoro-reg train'")
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 - no mapping
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    except SafetensorError as error:
        raise InputError(
            f"{path.name} is not a complete safetensors file (another format, or truncated); copy it again"
        ) from error


def _header(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {}).get(_HEADER, "null"))
    except (json.JSONDecodeError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}
