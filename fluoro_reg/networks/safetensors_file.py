"""Reading and writing safetensors files with a JSON header.

No other format of weights is read, because unpickling runs code of the file's author.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fluoro_reg.errors import InputError

_PICKLE_PREFIXES = (b"\x80", b"PK\x03\x04")  # a pickle's protocol byte; the zip archive that torch.save puts around a pickle
_JSON_START = b"{"  # a safetensors file has it after the eight bytes of the header's length, which may begin as a pickle does
_HEADER_KEY = "fluoro_reg"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a file under a temporary name and rename it, so that the old file survives concurrent reads and a full disk."""
    temporary = path.with_name(f".{path.name}.part")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary.write_bytes(save(contiguous, metadata={_HEADER_KEY: json.dumps(header, allow_nan=False)}))
    temporary.replace(path)


def read_tensors(path: Path | str, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a file whose header has this `kind`.

    Raises:
        InputError: the file is missing, a pickle, truncated, of another program or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path.name} is a folder; give one safetensors file")
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head.startswith(_PICKLE_PREFIXES) and head[8:] != _JSON_START:
            raise InputError(f"{path.name} is a pickle, which can run any code when read; give weights as safetensors")
        with safe_open(path, framework="pt") as file:
            header = _parse_header(file.metadata())
            if header.get("kind") != kind:
                raise InputError(f"{path.name} was not written by this program as {kind}; create it with 'fluoro-reg train'")
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 - not a mapping
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    except SafetensorError as error:
        raise InputError(
            f"{path.name} is not a complete safetensors file (another format, or truncated); copy it again"
        ) from error


def _parse_header(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Return our header, or an empty one where there is none."""
    try:
        header = json.loads((metadata or {}).get(_HEADER_KEY, "null"))
    except (json.JSONDecodeError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}
