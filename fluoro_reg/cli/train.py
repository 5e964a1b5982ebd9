"""`fluoro-reg train`: what is learned of one patient's CT, before the operation."""

import enum
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.files import check_writable, write_file
from fluoro_reg.cli.inputs import SERIES_HELP, CTArguments, read_volume
from fluoro_reg.cli.options import Common, grouped, paragraphs
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.carm.range import CarmRange
    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.training.loop import AbstractTraining
    from fluoro_reg.training.loop import Progress as Made
    from fluoro_reg.training.similarity import SimilarityRecord
    from fluoro_reg.training.validation import Record

C = TypeVar("C")
NAME = "train"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg train regressor --ct ct_folder --range carm.yaml --out patient.safetensors --budget 5min\n\n"
    "$ fluoro-reg register --ct ct_folder --image xray.png --camera camera.json --model patient.safetensors "
    "--method regressor-lm"
)
SIMILARITY_EXAMPLES = (
    "Example:\n\n$ fluoro-reg train similarity --kind prost --ct ct_folder --range carm.yaml --out prost.safetensors "
    "--budget 20min"
)
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """For what, for how long and where to."""

    out: Annotated[Path, typer.Option(metavar="W.safetensors", help="Weights to write; W.png beside them shows the training.")]
    range: Annotated[
        Path | None,
        typer.Option(
            metavar="C.yaml",
            help="carm.yaml: the range of views, mm and deg; an unknown key is refused. Default: a mobile C-arm, AP and PA.",
        ),
    ] = None
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time to train, as 60s, 5min or 2h. Default: 5min, or --set steps=N.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted training of the same weights.")] = False

    def settings(self, cls: type[C], common: Common, **typed: Any) -> C:
        """All settings of a training, layered; `typed` are options of one kind of it."""
        budget_s = None if self.budget is None else seconds(self.budget)
        return common.settings(cls, {"budget_s": budget_s, "seed": common.seed, **typed})

    def carm(self) -> "CarmRange":
        """The range of views."""
        from fluoro_reg.carm.range import CarmRange
        from fluoro_reg.config import from_mapping, load_yaml

        return CarmRange() if self.range is None else from_mapping(CarmRange, load_yaml(self.range), self.range.name)


class Similarity(str, enum.Enum):
    """The names of `fluoro_reg.learned.LEARNED`, here without torch so that `--help` is quick; a test compares them."""

    PROST = "prost"
    SPHERICAL = "spherical"


@dataclass(frozen=True, slots=True)
class KindOption:
    """Which of several."""

    kind: Annotated[Similarity | None, typer.Option(help="Which similarity. Default: prost.")] = None


@dataclass(frozen=True, slots=True)
class PatientOptions:
    """Of whom."""

    ct: Annotated[
        list[Path],
        typer.Option(
            metavar="CT",
            help="CT, as for ct-info; repeatable: several make weights of no one patient (docs/training.md).",
        ),
    ]
    series: Annotated[str | None, typer.Option(metavar="S", help=SERIES_HELP)] = None
    pretrained: Annotated[
        Path | None,
        typer.Option(metavar="W.safetensors", help="Weights of another CT, or of several, to begin from: that saves time."),
    ] = None

    def read(self, output: Output) -> "list[CTVolume]":
        """The CTs."""
        if self.series is not None and len(self.ct) > 1:
            raise InputError("--series chooses in the folder of one CT; with several --ct give folders of one series each")
        return [read_volume(CTArguments(path, self.series), output) for path in self.ct]


def regressor(patients: PatientOptions, train: TrainOptions, common: Common) -> int:
    """Train the pose regressor of one patient: a small network that finds a first pose in an X-ray, without a start.

    It learns from X-rays of the CT that are made while it trains, at poses of the range, with noise, tools and collimation. The
    weights know this CT alone. Errors shown are medians over views that training never saw: mTRE in mm, turns in degrees.
    """
    from fluoro_reg.rendering import resolve_device
    from fluoro_reg.training.options import TrainingOptions
    from fluoro_reg.training.report import write_report
    from fluoro_reg.training.trainer import RegressorTraining

    output = Output(common.json)
    options, carm = train.settings(TrainingOptions, common), train.carm()
    check_writable(train.out, (".safetensors",))
    device = resolve_device("auto" if common.device is None else common.device.value)
    first, *further = patients.read(output)
    with output.doing("making the held-back views"):
        training = RegressorTraining(first, carm, options, device, tuple(further), patients.pretrained)
    return _trained(training, train, output, _errors, lambda path: write_report(path, training))


def similarity(kind: KindOption, patients: PatientOptions, train: TrainOptions, common: Common) -> int:
    """Train a similarity of one patient: a value of a pose and an X-ray whose gradient leads to the true pose from afar.

    It learns from pairs of an X-ray of the CT, made as for 'train regressor', and a pose to start from; the direction of its
    gradient is what it is taught, and the distance that its value tells. Weights of one CT know it alone, those of several
    serve any. Shown are the mean cosines between the gradient and the way to the truth, for turns and shifts, over pairs that
    training never saw: 1 is perfect, about 0.6 is going to the middle without a look at the X-ray.
    """
    from fluoro_reg.rendering import resolve_device
    from fluoro_reg.training.report import write_similarity_report
    from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions

    output = Output(common.json)
    options, carm = train.settings(SimilarityTrainingOptions, common, kind=kind.kind), train.carm()
    check_writable(train.out, (".safetensors",))
    device = resolve_device("auto" if common.device is None else common.device.value)
    first, *further = patients.read(output)
    with output.doing("making the held-back pairs"):
        training = SimilarityTraining(first, carm, options, device, tuple(further), patients.pretrained)
    return _trained(training, train, output, _cosines, lambda path: write_similarity_report(path, training.state.history))


def _trained(
    training: "AbstractTraining[Any, Any, Any]",
    train: TrainOptions,
    output: Output,
    words: Callable[[Any], str],
    draw: Callable[[Path], None],
) -> int:
    """Runs a training under a bar, then writes its picture and tells what came of it."""
    with _bar(output) as bar:
        task = bar.add_task("training", total=1.0)

        def tell(made: "Made[Any]") -> None:
            found = "" if made.record is None else f", {words(made.record)}"
            bar.update(task, completed=made.share, description=f"step {made.step}: loss {made.loss:.3f}{found}")

        def make(out: Path) -> None:
            training.run(out, train.resume, tell)

        write_file(train.out, make)
    if not training.leads:
        return ExitStatus.ACCEPTED
    picture = train.out.with_suffix(".png")
    write_file(picture, draw)
    best, state = training.best, training.state
    answer = {"weights": train.out.name, "report": picture.name, **asdict(best), "steps": state.step}
    answer |= {"device": training.device, "elapsed_s": state.elapsed_s, "bytes": train.out.stat().st_size}
    output.show(answer, table_of(answer))
    return ExitStatus.ACCEPTED


def seconds(text: str) -> float:
    """`90`, `90s`, `1.5min` or `2h`.

    Raises:
        InputError: anything else, or no time at all.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)?", text.strip())
    if found is None or float(found[1]) == 0:
        raise InputError(f"--budget takes a time such as 60s, 5min or 2h, got '{text}'")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def _errors(record: "Record") -> str:
    return f"error {record.mtre_mm:.1f} mm, {record.rotation_deg:.1f} deg"


def _cosines(record: "SimilarityRecord") -> str:
    return f"cosines {record.rotation_cosine:.2f} of turns, {record.translation_cosine:.2f} of shifts"


def _bar(output: Output) -> Progress:
    """Loss, errors and the time left, on a terminal; silence elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(
        *columns,
        console=output.log,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not output.log.is_terminal,
    )


app = typer.Typer(name=NAME, help="Train what is learned of one patient's CT.", epilog=EXAMPLES, no_args_is_help=True)
app.command("regressor", help=paragraphs(regressor), epilog=EXAMPLES)(grouped(regressor))
app.command("similarity", help=paragraphs(similarity), epilog=SIMILARITY_EXAMPLES)(grouped(similarity))
