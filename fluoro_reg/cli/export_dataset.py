"""`fluoro-reg export-dataset`: a public data set's file to case folders, which every other subcommand takes."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.options import Common, Device
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.errors import InputError

NAME = "export-dataset"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg export-dataset deepfluoro ipcai_2020_full_res_data.h5 --out cases --specimen 17-1882\n\n"
    "$ fluoro-reg export-dataset ljubljana ljubljana.h5 --out ljubljana_cases --subject subject01 --view ap --view lat"
)


class Dataset(str, enum.Enum):
    """Which layout the file has."""

    DEEPFLUORO = "deepfluoro"
    LJUBLJANA = "ljubljana"


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


def command(
    dataset: Annotated[Dataset, typer.Argument(metavar="deepfluoro|ljubljana", help="Which data set.", case_sensitive=False)],
    file: Annotated[
        Path, typer.Argument(metavar="FILE.h5", help="The data set's file, as docs/datasets.md says where to get it.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New or empty folder to write.")],
    part: PartOptions,
    common: Common,
) -> int:
    """Write a public data set as case folders: CT, X-ray, camera, true pose, landmarks (mm) and a start.

    A start depends on the seed and the case's name alone. Further settings by --set: doubtful, femurs, border_px of DeepFluoro;
    vessels_above of Ljubljana. Needs h5py and nibabel: pip install "fluoro_reg[datasets]".
    """
    from fluoro_reg.evaluation.datasets import (
        DeepFluoroOptions,
        LjubljanaOptions,
        cases_from_deepfluoro,
        cases_from_ljubljana,
    )

    if common.device is Device.CUDA:
        raise InputError("export-dataset computes on the CPU only; leave --device out")
    output = Output(common.json)
    start = {"start.start_mm": part.start_mm, "start.seed": common.seed}
    with output.progress() as progress:
        task = progress.add_task("cases", total=None)

        def advance(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        if dataset is Dataset.DEEPFLUORO:
            _refuse({"--subject": part.subject, "--view": part.view}, "Ljubljana's")
            deepfluoro = common.settings(DeepFluoroOptions, {"specimens": part.specimen or None, **start})
            written = cases_from_deepfluoro(file, out, deepfluoro, advance)
        else:
            _refuse({"--specimen": part.specimen}, "DeepFluoro's")
            views = {"subjects": part.subject or None, "views": part.view or None}
            written = cases_from_ljubljana(file, out, common.settings(LjubljanaOptions, {**views, **start}), advance)
    answer: dict[str, Any] = {"out": out.name, "cases": [folder.name for folder in written]}
    output.show(answer, table_of({**answer, "cases": len(written)}))
    return ExitStatus.ACCEPTED


def _refuse(options: dict[str, list[str] | None], whose: str) -> None:
    for name, value in options.items():
        if value:
            raise InputError(f"{name} is {whose}; leave it out")
