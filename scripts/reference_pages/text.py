"""Text of the code as Markdown."""

import re
from collections.abc import Iterable


def unescaped(text: str) -> str:
    """Text that was escaped for rich, as it is."""
    return text.replace("\\[", "[")


def prose(text: str) -> str:
    """A help text as Markdown, with options as code."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", unescaped(text))


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table; a cell may hold line breaks."""
    lines = [head, ("---",) * len(head), *rows]  # a | inside backticks does not end a cell
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines) + "\n"
