"""The pages of the documentation as tests read them: those in `docs/`, and those that scripts/build_docs.py generates."""

import functools
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import build_docs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@functools.cache
def generated_pages() -> dict[str, str]:
    """The generated pages, by their path below `docs/`."""
    return build_docs.generated_pages()


def page(name: str) -> str:
    """A page by its path below `docs/`, from the folder or from the generator."""
    path = DOCS / name
    return path.read_text(encoding="utf-8") if path.exists() else generated_pages()[name]


def written_pages() -> dict[str, str]:
    """The pages in the repository by their path in it: the README, CONTRIBUTING and `docs/`."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


class Block(NamedTuple):
    """One code block of a page."""

    language: str
    title: str | None
    reason: str | None
    code: str


def blocks_of(text: str) -> list[Block]:
    """The code blocks of a page, in order."""
    return [Block(m["language"], m["title"], m["reason"], m["code"]) for m in BLOCK.finditer(text)]


def commands_of(code: str) -> list[list[str]]:
    """The words of every command of a shell block."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
