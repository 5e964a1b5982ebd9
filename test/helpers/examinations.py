"""Look-ups in the examinations of the doctor."""

from fluoro_reg.doctor.examination import Examination, Fact, Finding


def fact(examination: Examination, section: str, name: str) -> Fact:
    (found,) = [one for part in examination.sections if part.title == section for one in part.facts if one.name == name]
    return found


def finding(examination: Examination, level: str, words: str) -> Finding:
    (found,) = [one for one in examination.findings if one.level.value == level and words in one.sentence]
    return found
