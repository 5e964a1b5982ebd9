"""`fluoro-reg train`: what is learned of one patient's CT, before the operation."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.files import check_writable, write_file
from fluoro_reg.cli.inputs import CTOptions, read_volume
from fluoro_reg.cli.options import Common, grouped, paragraphs
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.training.loop import Progress as Made
    from fluoro_reg.training.options import TrainingOptions
    from fluoro_reg.training.validation import Record

NAME = "train"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg train regressor --ct ct_folder --range carm.yaml --out patient.safetensors --budget 5min\n\n"
    "$ fluoro-reg register --ct ct_folder --image xray.png --camera camera.json --model patient.safetensors "
    "--method regressor-lm"
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

    def settings(self, common: Common) -> "TrainingOptions":
        """All settings of a training, layered."""
        from fluoro_reg.training.options import TrainingOptions

        budget_s = None if self.budget is None else seconds(self.budget)
        return common.settings(TrainingOptions, {"budget_s": budget_s, "seed": common.seed})


def regressor(ct: CTOptions, train: TrainOptions, common: Common) -> int:
    """Train the pose regressor of one patient: a small network that finds a first pose in an X-ray, without a start.

    It learns from X-rays of the CT that are made while it trains, at poses of the range, with noise, tools and collimation. The
    weights know this CT alone. Errors shown are medians over views that training never saw: mTRE in mm, turns in degrees.
    """
    from fluoro_reg.config import from_mapping, load_yaml
    from fluoro_reg.evaluation.carm_range import CarmRange
    from fluoro_reg.rendering import resolve_device
    from fluoro_reg.training.report import write_report
    from fluoro_reg.training.trainer import RegressorTraining

    output = Output(common.json)
    options = train.settings(common)
    carm = CarmRange() if train.range is None else from_mapping(CarmRange, load_yaml(train.range), train.range.name)
    check_writable(train.out, (".safetensors",))
    device = resolve_device("auto" if common.device is None else common.device.value)
    volume = read_volume(ct, output)
    with output.doing("making the held-back views"):
        training = RegressorTraining(volume, carm, options, device)
    with _bar(output) as bar:
        task = bar.add_task("training", total=1.0)

        def tell(made: "Made[Record]") -> None:
            bar.update(task, completed=made.share, description=_words(made))

        def make(out: Path) -> None:
            training.run(out, train.resume, tell)

        write_file(train.out, make)
    if not training.leads:
        return ExitStatus.ACCEPTED
    picture = train.out.with_suffix(".png")
    write_file(picture, lambda path: write_report(path, training))
    best, state = training.best, training.state
    answer = {"weights": train.out.name, "report": picture.name, **asdict(best), "steps": state.step, "device": device}
    answer |= {"elapsed_s": state.elapsed_s, "bytes": train.out.stat().st_size}
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


def _words(made: "Made[Record]") -> str:
    errors = "" if (record := made.record) is None else f", error {record.mtre_mm:.1f} mm, {record.rotation_deg:.1f} deg"
    return f"step {made.step}: loss {made.loss:.3f}{errors}"


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
