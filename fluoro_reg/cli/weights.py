"""Weights of learned methods: what may be read, and what this version does with them.

Only safetensors is read, because unpickling runs whatever code the file's author put there. No installed method uses weights
yet, so a sound file is refused as well, in so many words: to register without them in silence would pass for a learned result.
"""

from pathlib import Path

from fluoro_reg.errors import InputError

_PICKLE = (b"\x80", b"PK\x03\x04")  # a pickle's protocol mark; torch.save's zip archive around one


def refuse_weights(path: Path) -> None:
    """Says why `--model` cannot be used with this file.

    Raises:
        InputError: always; the sentence depends on the file.
    """
    _check_safetensors(path)
    raise InputError(
        f"{path.name} is a sound safetensors file, but no method of this version uses weights ('fluoro-reg methods' lists what "
        "each needs); leave --model out and give a start by --initial"
    )


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise InputError(f"{path.name} is a folder; --model takes one safetensors file")
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head.startswith(_PICKLE):
            raise InputError(f"{path.name} is a pickle, which can run any code when read; give weights as safetensors")
        with safe_open(path, framework="numpy"):
            return
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; check the path") from error
    except SafetensorError as error:
        raise InputError(
            f"{path.name} is not a complete safetensors file (another format, or truncated); copy it again"
        ) from error
