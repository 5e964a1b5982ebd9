"""The headers of NRRD and MetaImage, which are text: what a file states, and what it states twice."""

import re
from dataclasses import dataclass
from pathlib import Path

from fluoro_reg.errors import InputError

_MAXIMUM_BYTES = 65_536
_METAIMAGE_SYNONYMS = {
    "Position": "Offset",
    "Origin": "Offset",
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}
_METAIMAGE_LAST = "ElementDataFile"
_MAXIMUM_QUOTED = 60  # characters
FIELDS = {  # that describe the grid and its values
    "NRRD": ("type", "sizes", "space", "spacedirections", "spaceorigin", "spacings", "spaceunits", "encoding", "endian"),
    "MetaImage": (
        *("ElementType", "DimSize", "ElementSpacing", "ElementSize", "TransformMatrix", "Offset", "AnatomicalOrientation"),
        *("DistanceUnits", "CompressedData", "BinaryDataByteOrderMSB"),
    ),
}
_TERMS = {  # of those fields
    *("left", "right", "anterior", "posterior", "superior", "inferior", "time", "scanner", "xyz", "d", "handed"),
    *("ras", "las", "lps", "rast", "last", "lpst", "rai", "rpi", "lpi", "lai", "rps"),
    *("m", "cm", "mm", "um", "nm", "in", "inch", "millimetre", "none", "unknown", "true", "false"),
    *("int", "uint", "short", "unsigned", "signed", "char", "uchar", "ushort", "float", "double", "t", "met", "e"),
    *("raw", "gz", "gzip", "ascii", "little", "big"),
}


@dataclass(frozen=True, slots=True)
class TextHeader:
    """The fields of a header by name, and its length in bytes."""

    fields: dict[str, str]
    length: int

    def get(self, *names: str) -> str:
        """Return the first of the named fields that is stated; an empty string if none is."""
        return next((self.fields[name] for name in names if name in self.fields), "")

    def numbers(self, name: str) -> list[float]:
        """Return a field as numbers, whatever separates them; empty if it is not stated or not numbers."""
        try:
            return [float(word) for word in self.get(name).replace(",", " ").replace("(", " ").replace(")", " ").split()]
        except ValueError:
            return []


def quotable(text: str) -> str:
    """Return the text of a field if it is numbers and terms of these formats; any other word may name a person."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return text[:_MAXIMUM_QUOTED] if all(word in _TERMS for word in words) else "(unknown)"


def read_nrrd_header(path: Path, where: str) -> TextHeader:
    """Read the fields of a NRRD up to the blank line. Names are in lower case and without spaces: `spacedirections`.

    Raises:
        InputError: A field is stated twice with different values.
    """
    content = _head(path)
    text, _, _ = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    fields: dict[str, str] = {}
    for line in text.decode("latin-1").split("\n")[1:]:
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#") and not value.startswith("="):
            _add(fields, name.strip().lower().replace(" ", ""), value.strip(), where)
    return TextHeader(fields, len(text) + 2 + text.count(b"\n") * (b"\r\n" in content[: len(text)]))


def read_metaimage_header(path: Path, where: str) -> TextHeader:
    """Read the fields of a MetaImage up to `ElementDataFile`. Synonyms have one name: `Position` is `Offset`.

    Raises:
        InputError: A field is stated twice with different values.
    """
    fields: dict[str, str] = {}
    length = 0
    for line in _head(path).split(b"\n"):
        length += len(line) + 1
        name, separator, value = (part.strip() for part in line.decode("latin-1").partition("="))
        if separator:
            _add(fields, _METAIMAGE_SYNONYMS.get(name, name), value, where)
        if name == _METAIMAGE_LAST:
            break
    return TextHeader(fields, length)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAXIMUM_BYTES)


def _add(fields: dict[str, str], name: str, value: str, where: str) -> None:
    before = fields.setdefault(name, value)
    if before.split() != value.split():
        field = f"its {name}" if any(name in known for known in FIELDS.values()) else "a field of its header"
        raise InputError(f"{where} states {field} twice: {quotable(before)} and {quotable(value)}; remove the wrong one")
