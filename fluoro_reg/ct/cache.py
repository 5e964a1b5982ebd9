"""A cache on disk of CTs that have been read, so that the same CT is there in a tenth of a second the next time.

An entry is found by a hash of the CT's files (names, order and content) and of the code that reads them. A CT that has changed
in any way, or a reader that has, is therefore read anew. The entry holds what `read_ct` returns: attenuation, geometry,
fingerprint and warnings, and neither a name nor a header. Attenuation shows the patient nonetheless, so that only the user can
read the entries. They are outside the folder of the CT, in the user's cache folder, and take no more than `MAXIMUM_BYTES`; the
ones that were not used for the longest time are removed first.

`FLUORO_REG_CT_CACHE` is the folder for entries, or `off`. NRRD and MetaImage are not kept, because their pixels may be in
another file.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fluoro_reg.ct.dicom.files import find_files, looks_like_dicom
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.ct.volume_files import format_of, is_volume_file

VARIABLE = "FLUORO_REG_CT_CACHE"
MAXIMUM_BYTES = 4 * 2**30
SUFFIX = ".ct"
_MAGIC = b"fluoro_reg CT 1\n"
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8
_BLOCK_BYTES = 2**22


def read_ct_cached(path: Path, series: str | None = None) -> CTVolume:
    """Return `read_ct(path, series)`, from the cache where it is there. A cache that cannot be used changes nothing.

    Raises:
        InputError: As `read_ct`.
    """
    folder = cache_folder()
    files = _files(path) if folder is not None else None
    if folder is None or not files:
        return read_ct(path, series)
    entry = folder / f"{_key(path, files, series)}{SUFFIX}"
    volume = load(entry)
    if volume is None:
        volume = read_ct(path, series)
        if not any(file.name in sentence for file in files for sentence in volume.warnings):
            store(entry, volume)
    return volume


def cache_folder() -> Path | None:
    """Return the folder for entries, which need not exist; None if the cache is off or there is no place for it."""
    given = os.environ.get(VARIABLE, "")
    if given.lower() == "off" or os.name != "posix":  # elsewhere, modes do not keep others from reading
        return None
    if given:
        return Path(given)
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "fluoro_reg" / "ct"
    except RuntimeError:  # there is no home folder
        return None


def load(entry: Path) -> CTVolume | None:
    """Return the CT of an entry; None if there is none, or if it is damaged or belongs to another user."""
    try:
        if not _is_own(entry.parent):
            return None
        content = np.fromfile(entry, np.uint8)
        os.utime(entry)  # the entry that was used last is removed last
    except OSError:
        return None
    header_begin = len(_MAGIC) + _DIGEST_BYTES
    if content[: len(_MAGIC)].tobytes() != _MAGIC:
        return None
    if hashlib.sha256(content[header_begin:].data).digest() != content[len(_MAGIC) : header_begin].tobytes():
        return None
    begin = header_begin + _LENGTH_BYTES
    end = begin + int.from_bytes(content[header_begin:begin].tobytes(), "little")
    header = json.loads(content[begin:end].tobytes())
    return CTVolume(
        torch.from_numpy(content[end:].view(np.float32).reshape(header["shape"])),
        torch.tensor(header["patient_from_voxel"], dtype=torch.float64),
        header["fingerprint"],
        tuple(header["hu_range"]),
        tuple(header["warnings"]),
        header["is_hu"],
    )


def store(entry: Path, volume: CTVolume) -> None:
    """Write an entry as a whole or not at all, readable for the user alone, and remove others that there is no room for."""
    voxels = np.ascontiguousarray(volume.attenuation.numpy(), np.float32)
    if voxels.nbytes > MAXIMUM_BYTES:
        return
    parts: list[bytes | memoryview] = [*_header(volume), voxels.data]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    with contextlib.suppress(OSError):  # such as a full disk: the CT is then read again the next time
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own(entry.parent):
            return
        handle, temporary = tempfile.mkstemp(suffix=SUFFIX, prefix=".", dir=entry.parent)  # 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines([_MAGIC, digest.digest(), *parts])
            Path(temporary).replace(entry)
        finally:
            Path(temporary).unlink(missing_ok=True)
        _remove_oldest(entry.parent)


def _header(volume: CTVolume) -> list[bytes]:
    content: dict[str, Any] = {
        "shape": list(volume.attenuation.shape),
        "patient_from_voxel": volume.patient_from_voxel.tolist(),
        "fingerprint": volume.fingerprint,
        "hu_range": list(volume.hu_range),
        "warnings": list(volume.warnings),
        "is_hu": volume.is_hu,
    }
    text = json.dumps(content).encode()
    text += b" " * (-(len(_MAGIC) + _DIGEST_BYTES + _LENGTH_BYTES + len(text)) % 8)  # the voxels begin at a multiple of 8
    return [len(text).to_bytes(_LENGTH_BYTES, "little"), text]


def _is_own(folder: Path) -> bool:
    """Whether the folder belongs to the user; what others have put there is not read."""
    return folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o022


def _files(path: Path) -> list[Path] | None:
    """The files that `read_ct` reads, if they alone determine the CT; else None."""
    if not path.exists():
        return None
    files = find_files(path) if path.is_dir() else [path]
    volumes = [file for file in files if is_volume_file(file) or not (path.is_dir() or looks_like_dicom(file))]
    return None if any(format_of(file) != "NIfTI" for file in volumes) else files


def _key(path: Path, files: list[Path], series: str | None) -> str:
    """A hash of the names of the files below `path` and of their content, and of the code that reads them."""
    key = hashlib.sha256(_digest_of_readers())
    root = path if path.is_dir() else path.parent
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        for file, digest in zip(files, pool.map(_digest, files), strict=True):
            key.update(_framed([os.fsencode(file.relative_to(root)), digest]))
    key.update(_framed([(series or "").encode()]))
    return key.hexdigest()


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError:
        return os.urandom(_DIGEST_BYTES)  # matches no entry; the reader says what is wrong
    return digest.digest()


def _digest_of_readers() -> bytes:
    package = Path(__file__).resolve().parent
    sources = sorted([*package.rglob("*.py"), package.parent / "dicom_bits.py"])
    return hashlib.sha256(_framed(source.read_bytes() for source in sources)).digest()


def _framed(parts: Iterable[bytes]) -> bytes:
    """The parts with their lengths, so that no other parts give the same bytes."""
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "little") + part for part in parts)


def _remove_oldest(folder: Path) -> None:
    found = [(file.stat(), file) for file in folder.iterdir() if file.suffix == SUFFIX]
    total = 0
    for state, file in sorted(found, key=lambda one: one[0].st_mtime, reverse=True):
        total += state.st_size
        if total > MAXIMUM_BYTES:
            file.unlink(missing_ok=True)
