"""Names of files and folders taken out of sentences, because people name them after patients.

The readers quote at most the last part of a path. In a report even that is replaced: an input is called by its number.
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

_MAXIMUM_NAMES = 2000
_MINIMUM_LENGTH = 2  # one letter names nobody, and is a word


def names_of(path: Path) -> list[str]:
    """Return the names by which a reader's sentence may call an input: its path, its name, and those of the files in it."""
    names = [str(path), str(path.absolute()), path.name, path.absolute().name]
    if path.is_dir():
        names += [file.name for file in itertools.islice(path.rglob("*"), _MAXIMUM_NAMES)]
    return names


def without_names(sentence: str, names: Iterable[str], replacement: str) -> str:
    """Return a sentence in which every whole occurrence of a name is replaced; long names come first."""
    usable = sorted({name for name in names if len(name) >= _MINIMUM_LENGTH}, key=len, reverse=True)
    if not usable:
        return sentence
    pattern = "|".join(re.escape(name) for name in usable)
    return re.sub(rf"(?<!\w)'?(?:{pattern})'?(?!\w)", replacement, sentence)
