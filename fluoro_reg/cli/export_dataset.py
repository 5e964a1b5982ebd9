"""`fluoro-reg export-dataset`: write a public data set or a recording as case folders."""

import enum
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fluoro_reg.cli.common_arguments import CommonArguments, Device
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.cli.recording_arguments import RECORDING_PANEL, RecordingArguments
from fluoro_reg.cli.typer_command import epilog_text
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.progress import Progress

C = TypeVar("C")

NAME = "export-dataset"
EPILOG = epilog_text(
    [
        (
            "Export one specimen of DeepFluoro",
            "fluoro-reg export-dataset deepfluoro ipcai_2020_full_res_data.h5 --out cases/ \\\n--specimen 17-1882",
        ),
        (
            "Export the AP and lateral views of one patient of Ljubljana",
            "fluoro-reg export-dataset ljubljana ljubljana.h5 --out cases/ --subject subject01 \\\n--view ap --view lat",
        ),
        (
            "Export a recording with known poses",
            "fluoro-reg export-dataset recording bag_folder/ --ct ct/ --truth truth.json --out cases/",
        ),
    ]
)


class Dataset(str, enum.Enum):
    """What the file holds."""

    DEEPFLUORO = "deepfluoro"
    LJUBLJANA = "ljubljana"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class SelectionArguments:
    """The part of a data set to export, and the error of the initial poses."""

    specimen: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="DeepFluoro: a specimen; repeatable. Default: all six.")
    ] = None
    subject: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ljubljana: a patient; repeatable. Default: all ten.")
    ] = None
    view: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Ljubljana: a view (ap, lat, ap-max or lat-max); repeatable. Default: ap and lat."),
    ] = None
    start_mm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Range of the initial pose's error (mTRE in mm), sampled uniformly. Default: 10 25.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class GroundTruthArguments:
    """The CT, true poses and landmarks of a recording."""

    ct: Annotated[
        Path | None,
        typer.Option("--ct", metavar="CT", help="CT of the patient. Required.", rich_help_panel=RECORDING_PANEL),
    ] = None
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="T.json",
            help="True poses (mm) by stamp_ns or frame; the documentation of data sets describes the file. Required.",
            rich_help_panel=RECORDING_PANEL,
        ),
    ] = None
    landmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="L.json",
            help="landmarks.json (patient frame, mm): the points for the mTRE. Default: points on bone that the X-ray shows.",
            rich_help_panel=RECORDING_PANEL,
        ),
    ] = None


def command(
    dataset: Annotated[
        Dataset,
        typer.Argument(metavar="DATASET", help="What FILE holds: deepfluoro, ljubljana or recording.", case_sensitive=False),
    ],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The data set's file (its documentation says where to get it), a bag or a cine."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, new or empty.")],
    selection: SelectionArguments,
    ground_truth: GroundTruthArguments,
    source: RecordingArguments,
    common: CommonArguments,
) -> int:
    """Write a public data set or your own recording as case folders.

    Each case holds the CT, an X-ray, its camera, the true pose, landmarks (mm) and an initial pose, which depends only on the
    seed and the case's name. Every frame of a recording (rosbag2 or DICOM cine) that has a true pose becomes a case.

    DeepFluoro and Ljubljana need h5py and nibabel: pip install "fluoro_reg[datasets]". Settings for --set: doubtful, femurs and
    border_px (DeepFluoro); vessels_above (Ljubljana).
    """
    if common.device is Device.CUDA:
        raise InputError("export-dataset runs on the CPU only; leave --device out")
    request = _Request(file, out, selection, ground_truth, source, common)
    request.check(dataset)
    exports = {Dataset.DEEPFLUORO: _deepfluoro, Dataset.LJUBLJANA: _ljubljana, Dataset.RECORDING: _recording}
    output = Output(common.json)
    with output.progress("cases") as progress:
        cases, counts = exports[dataset](request, progress.update)
    result: dict[str, Any] = {"out": out.name, "cases": [folder.name for folder in cases], **counts}
    output.show(result, key_value_table({**result, "cases": len(cases)}))
    return ExitStatus.ACCEPTED


@dataclass(frozen=True, slots=True)
class _Request:
    """All arguments but the kind of data set."""

    file: Path
    out: Path
    selection: SelectionArguments
    ground_truth: GroundTruthArguments
    source: RecordingArguments
    common: CommonArguments

    def check(self, dataset: Dataset) -> None:
        """Raise an InputError if an option is given that does not apply to `dataset`."""
        recording = {
            f"--{field.name.replace('_', '-')}": getattr(arguments, field.name)
            for arguments in (self.ground_truth, self.source)
            for field in fields(arguments)
        }
        applicable = {
            Dataset.DEEPFLUORO: ("DeepFluoro", {"--specimen": self.selection.specimen}),
            Dataset.LJUBLJANA: ("Ljubljana", {"--subject": self.selection.subject, "--view": self.selection.view}),
            Dataset.RECORDING: ("a recording", recording),
        }
        for owner, (name, options) in applicable.items():
            for option, value in options.items():
                if value and owner is not dataset:
                    raise InputError(f"{option} applies to {name} only; leave it out")

    def settings(self, cls: type[C], given: dict[str, Any]) -> C:
        """The settings of a public data set, with those of the initial poses."""
        start = {"start.start_mm": self.selection.start_mm, "start.seed": self.common.seed}
        return self.common.settings(cls, {**given, **start})


def _deepfluoro(request: _Request, progress: "Progress") -> tuple[list[Path], dict[str, int]]:
    from fluoro_reg.evaluation.datasets import DeepFluoroOptions, cases_from_deepfluoro

    options = request.settings(DeepFluoroOptions, {"specimens": request.selection.specimen or None})
    return cases_from_deepfluoro(request.file, request.out, options, progress), {}


def _ljubljana(request: _Request, progress: "Progress") -> tuple[list[Path], dict[str, int]]:
    from fluoro_reg.evaluation.datasets import LjubljanaOptions, cases_from_ljubljana

    selection = request.selection
    options = request.settings(LjubljanaOptions, {"subjects": selection.subject or None, "views": selection.view or None})
    return cases_from_ljubljana(request.file, request.out, options, progress), {}


def _recording(request: _Request, progress: "Progress") -> tuple[list[Path], dict[str, int]]:
    from fluoro_reg.evaluation.datasets import InitialPoseOptions, RecordingFiles, cases_from_recording

    truth, common = request.ground_truth, request.common
    if truth.ct is None or truth.truth is None:
        raise InputError("a recording needs the CT of the patient and true poses; give --ct CT and --truth T.json")
    initial_pose = common.settings(InitialPoseOptions, {"start_mm": request.selection.start_mm, "seed": common.seed})
    files = RecordingFiles(request.file, truth.ct, truth.truth, truth.landmarks)
    exported = cases_from_recording(files, request.out, request.source.read(), initial_pose, progress)
    return exported.cases, {"without_truth": exported.without_truth, "unreadable": exported.unreadable}
