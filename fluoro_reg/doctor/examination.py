"""The types of a report: what was found in one input, as facts with their sources, findings, and pictures.

A fact says which item gave it. A finding says what is wrong or missing and what to do. Nothing here holds a name, an
identifier, a date or the name of a file: an input is known by its number and its kind.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Level(str, enum.Enum):
    """How much a finding matters."""

    NOTE = "note"  # worth knowing
    WARNING = "warning"  # a registration runs, but may be wrong or be rejected
    MISSING = "missing"  # a registration needs what the finding names
    REFUSED = "refused"  # a registration cannot use the input


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong or worth knowing, in one sentence that says what to do.

    `give` is the option or the line of camera.json that helps, to copy; it may be empty. `is_quoted` says that the sentence is
    a reader's, which may call a file by its name.
    """

    level: Level
    sentence: str
    give: str = ""
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A value with its unit and the item that it comes from. `value` is ready for JSON."""

    name: str
    value: Any
    unit: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Facts that belong together."""

    title: str
    facts: Sequence[Fact]


@dataclass(frozen=True, slots=True)
class Picture:
    """A WebP image with its caption."""

    title: str
    text: str
    webp: bytes


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was found in one input.

    Attributes:
        kind: What the input is, such as `CT (DICOM)`.
        sections: The facts.
        findings: What is wrong, missing or worth knowing.
        pictures: What a registration would see, coarse enough to hide burnt-in writing.
    """

    kind: str
    sections: Sequence[Section] = ()
    findings: Sequence[Finding] = ()
    pictures: Sequence[Picture] = ()

    @property
    def status(self) -> str:
        """Return `refused`, `incomplete` or `ready`."""
        levels = {finding.level for finding in self.findings}
        return "refused" if Level.REFUSED in levels else "incomplete" if Level.MISSING in levels else "ready"

    def to_json(self, number: int) -> dict[str, Any]:
        """Return the facts and findings of input `number`, ready for JSON. Pictures are in the HTML report only."""
        return {
            "input": number,
            "kind": self.kind,
            "status": self.status,
            "facts": {section.title: [_fact_json(fact) for fact in section.facts] for section in self.sections},
            "findings": [
                {"level": finding.level.value, "sentence": finding.sentence, "give": finding.give or None}
                for finding in self.findings
            ],
        }


def refusal(kind: str, sentence: str, sections: Sequence[Section] = ()) -> Examination:
    """Return the examination of an input that a registration cannot use, with the reason in one sentence."""
    return Examination(kind, sections, (Finding(Level.REFUSED, sentence, is_quoted=True),))


def warnings_of(sentences: Sequence[str]) -> list[Finding]:
    """Return the warnings of a reader as findings."""
    return [Finding(Level.WARNING, sentence, is_quoted=True) for sentence in sentences]


def _fact_json(fact: Fact) -> dict[str, Any]:
    return {"name": fact.name, "value": fact.value, "unit": fact.unit or None, "source": fact.source or None}
