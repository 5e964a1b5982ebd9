"""`fluoro-reg export-dataset`: a public data set's file, or one's own recording, to case folders for all subcommands."""

import enum
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.options import Common, Device
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.cli.recordings import SourceOptions
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.evaluation.datasets.export import Progress

C = TypeVar("C")

NAME = "export-dataset"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg export-dataset deepfluoro ipcai_2020_full_res_data.h5 --out cases --specimen 17-1882\n\n"
    "$ fluoro-reg export-dataset ljubljana ljubljana.h5 --out ljubljana_cases --subject subject01 --view ap --view lat\n\n"
    "$ fluoro-reg export-dataset recording bag_folder --ct ct_folder --truth truth.json --out recorded_cases"
)


class Dataset(str, enum.Enum):
    """Which layout the file has."""

    DEEPFLUORO = "deepfluoro"
    LJUBLJANA = "ljubljana"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class PartOptions:
    """What of the data set, and where registrations are to begin."""

    specimen: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="DeepFluoro: one of its specimens; repeatable. Default: all six.")
    ] = None
    subject: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ljubljana: one of its patients; repeatable. Default: all ten.")
    ] = None
    view: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Ljubljana: ap, lat, ap-max, lat-max; repeatable. Default: ap, lat."),
    ] = None
    start_mm: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Each start's error is drawn evenly from this band of mTRE, mm. Default: 10 25."),
    ] = None


@dataclass(frozen=True, slots=True)
class KnownOptions:
    """What is known of a recording."""

    ct: Annotated[Path | None, typer.Option(metavar="CT", help="Recording: the CT of who is seen. Needed.")] = None
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="T.json", help="Recording: true poses by stamp_ns or frame, mm, as docs/datasets.md says. Needed."
        ),
    ] = None
    landmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="L.json", help="Recording: points, patient mm, for the mTRE. Default: points of bone in each view."
        ),
    ] = None


def command(
    dataset: Annotated[
        Dataset, typer.Argument(metavar="deepfluoro|ljubljana|recording", help="What FILE is.", case_sensitive=False)
    ],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The data set's file, as docs/datasets.md says where to get it; a bag or a cine."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New or empty folder to write.")],
    part: PartOptions,
    known: KnownOptions,
    source: SourceOptions,
    common: Common,
) -> int:
    """Write a public data set, or a recording, as case folders: CT, X-ray, camera, true pose, landmarks (mm) and a start.

    A start depends on the seed and the case's name alone. Further settings by --set: doubtful, femurs, border_px of DeepFluoro;
    vessels_above of Ljubljana. The two need h5py and nibabel: pip install "fluoro_reg[datasets]". Of a recording (rosbag2 or
    DICOM cine) each frame that has a true pose becomes a case.
    """
    if common.device is Device.CUDA:
        raise InputError("export-dataset computes on the CPU only; leave --device out")
    asked = _Asked(file, out, part, known, source, common)
    asked.check(dataset)
    exports = {Dataset.DEEPFLUORO: _deepfluoro, Dataset.LJUBLJANA: _ljubljana, Dataset.RECORDING: _recording}
    output = Output(common.json)
    with output.progress() as progress:
        task = progress.add_task("cases", total=None)

        def advance(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        cases, more = exports[dataset](asked, advance)
    answer: dict[str, Any] = {"out": out.name, "cases": [folder.name for folder in cases], **more}
    output.show(answer, table_of({**answer, "cases": len(cases)}))
    return ExitStatus.ACCEPTED


@dataclass(frozen=True, slots=True)
class _Asked:
    """All that was typed."""

    file: Path
    out: Path
    part: PartOptions
    known: KnownOptions
    source: SourceOptions
    common: Common

    def check(self, dataset: Dataset) -> None:
        """Refuses options that belong to another kind of file."""
        recording = {
            f"--{field.name.replace('_', '-')}": getattr(options, field.name)
            for options in (self.known, self.source)
            for field in fields(options)
        }
        whose = {
            Dataset.DEEPFLUORO: ("DeepFluoro's", {"--specimen": self.part.specimen}),
            Dataset.LJUBLJANA: ("Ljubljana's", {"--subject": self.part.subject, "--view": self.part.view}),
            Dataset.RECORDING: ("a recording's", recording),
        }
        for owner, (name, options) in whose.items():
            for option, value in options.items():
                if value and owner is not dataset:
                    raise InputError(f"{option} is {name}; leave it out")

    def settings(self, cls: type[C], more: dict[str, Any]) -> C:
        """Those of a data set, with its starts."""
        start = {"start.start_mm": self.part.start_mm, "start.seed": self.common.seed}
        return self.common.settings(cls, {**more, **start})


def _deepfluoro(asked: _Asked, advance: "Progress") -> tuple[list[Path], dict[str, int]]:
    from fluoro_reg.evaluation.datasets import DeepFluoroOptions, cases_from_deepfluoro

    options = asked.settings(DeepFluoroOptions, {"specimens": asked.part.specimen or None})
    return cases_from_deepfluoro(asked.file, asked.out, options, advance), {}


def _ljubljana(asked: _Asked, advance: "Progress") -> tuple[list[Path], dict[str, int]]:
    from fluoro_reg.evaluation.datasets import LjubljanaOptions, cases_from_ljubljana

    options = asked.settings(LjubljanaOptions, {"subjects": asked.part.subject or None, "views": asked.part.view or None})
    return cases_from_ljubljana(asked.file, asked.out, options, advance), {}


def _recording(asked: _Asked, advance: "Progress") -> tuple[list[Path], dict[str, int]]:
    from fluoro_reg.evaluation.datasets import InitialPoseOptions, RecordingFiles, cases_from_recording

    known, part = asked.known, asked.part
    if known.ct is None or known.truth is None:
        raise InputError("a recording needs the CT of who is seen and true poses; give --ct CT and --truth T.json")
    start = asked.common.settings(InitialPoseOptions, {"start_mm": part.start_mm, "seed": asked.common.seed})
    files = RecordingFiles(asked.file, known.ct, known.truth, known.landmarks)
    exported = cases_from_recording(files, asked.out, asked.source.read(), start, advance)
    return exported.cases, {"without_truth": exported.without_truth, "unreadable": exported.unreadable}
