"""The examination of everything at the given paths, with the names of files and folders taken out."""

import dataclasses
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

from fluoro_reg.doctor.anonymous import names_of, without_names
from fluoro_reg.doctor.bag import examine_bag
from fluoro_reg.doctor.ct import examine_ct
from fluoro_reg.doctor.examination import Examination, Finding, Level, refusal
from fluoro_reg.doctor.inputs import MAXIMUM_XRAYS, Input, InputKind, find_inputs
from fluoro_reg.doctor.xray import XrayOptions, examine_xray
from fluoro_reg.errors import InputError
from fluoro_reg.formats.recordings import RecordingSource


@dataclasses.dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What the user says about the inputs: a DICOM series of CTs, and topics, camera and intensity of X-rays and bags."""

    series: str | None = None
    source: RecordingSource = dataclasses.field(default_factory=RecordingSource)


def examine_paths(paths: Sequence[Path], options: DoctorOptions) -> Iterable[Examination]:
    """Iterate over the examinations of all inputs at the paths, in order. An unusable input is one that is refused."""
    for path in paths:
        names = names_of(path)
        for examination in _examine_path(path, options):
            yield _finished(examination, names)


def _examine_path(path: Path, options: DoctorOptions) -> Iterable[Examination]:
    try:
        found = find_inputs(path)
    except InputError as error:
        yield refusal("file or folder", str(error))
        return
    for one in found.inputs:
        try:
            yield _examine(one, options)
        except Exception as error:  # a bug, which must not hide what is found in the other inputs; its text may quote a header
            place = traceback.extract_tb(error.__traceback__)[-1].name
            yield refusal(
                one.kind.value, f"its examination failed unexpectedly ({type(error).__name__} in {place}); report this bug"
            )
    if found.left_out:
        sentence = (
            f"{found.left_out} more X-rays of the folder were not examined, because {MAXIMUM_XRAYS} fill a report; name them"
        )
        yield Examination("further X-rays", findings=(Finding(Level.NOTE, sentence),))


def _examine(one: Input, options: DoctorOptions) -> Examination:
    if one.kind is InputKind.CT:
        return examine_ct(one.path, options.series)
    if one.kind is InputKind.XRAY:
        source = options.source
        return examine_xray(one.path, XrayOptions(source.camera, source.intensity, source.distortion))
    return examine_bag(one.path, options.source)


def _finished(examination: Examination, names: Sequence[str]) -> Examination:
    """Return an examination without the names of files, its most serious findings first."""

    def clean(finding: Finding) -> Finding:
        return dataclasses.replace(finding, sentence=without_names(finding.sentence, names, "the input"))

    findings = [clean(finding) if finding.is_quoted else finding for finding in examination.findings]
    order = [Level.REFUSED, Level.MISSING, Level.WARNING, Level.NOTE]
    return dataclasses.replace(examination, findings=sorted(findings, key=lambda finding: order.index(finding.level)))
