"""`fluoro-reg train`: train a pose regressor or a learned similarity on one patient's CT, before the operation."""

import enum
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fluoro_reg.cli.common_arguments import CommonArguments
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import SERIES_HELP, CTArguments, read_volume
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.cli.output_files import check_writable, write_file
from fluoro_reg.cli.progress import progress_bar
from fluoro_reg.cli.typer_command import add_command, epilog_text
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.carm.range import CarmRange
    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.training.loop import AbstractTraining, Progress
    from fluoro_reg.training.similarity import SimilarityRecord
    from fluoro_reg.training.validation import RegressorRecord

C = TypeVar("C")
NAME = "train"
_REGRESSOR_EXAMPLE = (
    "Train a pose regressor",
    "fluoro-reg train regressor --ct ct/ --range carm.yaml --out weights.safetensors",
)
_SIMILARITY_EXAMPLE = (
    "Train a similarity",
    "fluoro-reg train similarity --kind prost --ct ct/ --range carm.yaml \\\n--out prost.safetensors --budget 20min",
)
REGRESSOR_EPILOG = epilog_text(
    [
        _REGRESSOR_EXAMPLE,
        (
            "Register without an initial pose",
            "fluoro-reg register --ct ct/ --image xray.png --camera camera.json \\\n"
            "--model weights.safetensors --method regressor-lm",
        ),
    ]
)
SIMILARITY_EPILOG = epilog_text(
    [
        _SIMILARITY_EXAMPLE,
        (
            "Register with it",
            "fluoro-reg register --ct ct/ --image xray.png --camera camera.json \\\n"
            "--initial initial.json --similarity prost.safetensors --method prost",
        ),
    ]
)
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_SHOW_EVERY_S = 0.2  # a GPU waits whenever it is asked for the loss


@dataclass(frozen=True, slots=True)
class TrainingArguments:
    """The weights to write, the range of views, and how long to train."""

    out: Annotated[
        Path,
        typer.Option(metavar="W.safetensors", help="Weights to write. W.png next to them plots the training."),
    ]
    range: Annotated[
        Path | None,
        typer.Option(
            metavar="C.yaml",
            help="carm.yaml: the range of views (mm, deg) to train on. Default: AP and PA views of a mobile C-arm.",
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Time to train, for example 60s, 5min or 2h. Default: 5min, or the steps of --set steps=N."
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training of the same weights.")] = False

    def settings(self, cls: type[C], common: CommonArguments, defaults: Mapping[str, Any], **given: Any) -> C:
        """Return all settings of a training.

        Args:
            cls: The settings.
            common: The options that all subcommands share.
            defaults: The defaults for the device.
            given: Options that only one kind of training has.
        """
        budget_s = None if self.budget is None else seconds_of(self.budget)
        return common.settings(cls, {"budget_s": budget_s, "seed": common.seed, **given}, defaults)

    def carm(self) -> "CarmRange":
        """Return the range of views."""
        from fluoro_reg.carm.range import CarmRange
        from fluoro_reg.config import from_mapping, load_yaml

        return CarmRange() if self.range is None else from_mapping(CarmRange, load_yaml(self.range), self.range.name)


class SimilarityKind(str, enum.Enum):
    """The names in `learned.LEARNED_SIMILARITIES`, copied so that `--help` need not import torch; a test compares them."""

    PROST = "prost"
    SPHERICAL = "spherical"


@dataclass(frozen=True, slots=True)
class SimilarityKindArguments:
    """Which similarity to train."""

    kind: Annotated[SimilarityKind | None, typer.Option(help="The similarity to train. Default: prost.")] = None


@dataclass(frozen=True, slots=True)
class TrainingCTArguments:
    """The CTs to train on, and weights to start from."""

    ct: Annotated[
        list[Path],
        typer.Option(
            "--ct",
            metavar="CT",
            help="CT: a folder or file of DICOM, or a NIfTI, NRRD or MHA file; repeatable, for weights that are not specific "
            "to one patient.",
        ),
    ]
    series: Annotated[str | None, typer.Option(metavar="S", help=SERIES_HELP)] = None
    pretrained: Annotated[
        Path | None,
        typer.Option(metavar="W.safetensors", help="Start from weights of another CT, or of several. This saves time."),
    ] = None

    def read(self, output: Output) -> "list[CTVolume]":
        """Read the CTs."""
        if self.series is not None and len(self.ct) > 1:
            raise InputError("--series applies to a single CT; with several --ct give folders that hold one series each")
        return [read_volume(CTArguments(path, self.series), output) for path in self.ct]


def regressor(cts: TrainingCTArguments, arguments: TrainingArguments, common: CommonArguments) -> int:
    """Train a pose regressor: a small network that predicts the pose in an X-ray, so that no initial pose is needed.

    The network learns from X-rays that are simulated from the CT during the training, with noise, instruments and collimation.
    The weights work only with this CT. Weights of several CTs are only for --pretrained.

    The reported errors are medians over views that were not used for training: mTRE in mm, rotation in degrees.
    """
    from fluoro_reg.rendering import resolve_device
    from fluoro_reg.training.device_defaults import regressor_defaults
    from fluoro_reg.training.options import TrainingOptions
    from fluoro_reg.training.report import write_regressor_report
    from fluoro_reg.training.trainer import RegressorTraining

    output = Output(common.json)
    device = resolve_device("auto" if common.device is None else common.device.value)
    options, carm = arguments.settings(TrainingOptions, common, regressor_defaults(device)), arguments.carm()
    check_writable(arguments.out, (".safetensors",))
    first, *further = cts.read(output)
    with output.status("preparing the CT"):
        training = RegressorTraining(first, carm, options, device, tuple(further), cts.pretrained)
    return _train(training, arguments, output, _error_text, lambda path: write_regressor_report(path, training))


def similarity(
    kind: SimilarityKindArguments, cts: TrainingCTArguments, arguments: TrainingArguments, common: CommonArguments
) -> int:
    """Train a learned similarity: a score of a pose and an X-ray whose gradient points to the true pose from further away.

    The network learns from pairs of a pose and an X-ray that is simulated from the CT. It learns the direction of the gradient
    and the distance that the score represents. Weights of one CT work only with that CT; weights of several CTs work with any.

    The reported cosines are those of the angle between the gradient and the direction to the true pose, for rotation and for
    translation, averaged over pairs that were not used for training. 1 is perfect. Where all pairs are about one view
    (pairs.around=middle), a gradient that always points there, whatever the X-ray shows, scores about 0.6.
    """
    from fluoro_reg.rendering import resolve_device
    from fluoro_reg.training.device_defaults import similarity_defaults
    from fluoro_reg.training.report import write_similarity_report
    from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions

    output = Output(common.json)
    device = resolve_device("auto" if common.device is None else common.device.value)
    defaults = similarity_defaults(device)
    options, carm = arguments.settings(SimilarityTrainingOptions, common, defaults, kind=kind.kind), arguments.carm()
    check_writable(arguments.out, (".safetensors",))
    first, *further = cts.read(output)
    with output.status("preparing the CT"):
        training = SimilarityTraining(first, carm, options, device, tuple(further), cts.pretrained)
    return _train(training, arguments, output, _cosine_text, lambda path: write_similarity_report(path, training.state.history))


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as `90`, `90s`, `1.5min` or `2h`.

    Raises:
        InputError: The text is not such a time, or the time is zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)?", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(f"--budget takes a time such as 60s, 5min or 2h, got '{text}'")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def _train(
    training: "AbstractTraining[Any, Any, Any]",
    arguments: TrainingArguments,
    output: Output,
    record_text: Callable[[Any], str],
    write_plot: Callable[[Path], None],
) -> int:
    """Run a training with a progress bar, write its plot, and show the validation of its weights."""
    with progress_bar(output.stderr, "training", 1.0, counts=False) as bar:
        shown = 0.0

        def show(progress: "Progress[Any]") -> None:
            nonlocal shown
            if (now := time.perf_counter()) < shown + _SHOW_EVERY_S and progress.fraction < 1:
                return
            shown, validation = now, "" if progress.record is None else f", {record_text(progress.record)}"
            bar.describe(f"step {progress.step}: loss {float(progress.loss):.3f}{validation}")
            bar.update(progress.fraction, 1.0)

        def run(path: Path) -> None:
            training.run(path, arguments.resume, show)

        write_file(arguments.out, run)
    if not training.is_main:
        return ExitStatus.ACCEPTED
    plot = arguments.out.with_suffix(".png")
    write_file(plot, write_plot)
    best, state = training.best, training.state
    result = {"weights": arguments.out.name, "report": plot.name, **asdict(best), "steps": state.step}
    result |= {"device": training.device, "elapsed_s": state.elapsed_s, "steps_per_s": state.step / state.elapsed_s}
    result |= {**asdict(training.durations), "bytes": arguments.out.stat().st_size}
    output.show(result, key_value_table(result))
    return ExitStatus.ACCEPTED


def _error_text(record: "RegressorRecord") -> str:
    return f"error {record.mtre_mm:.1f} mm, {record.rotation_deg:.1f} deg"


def _cosine_text(record: "SimilarityRecord") -> str:
    return f"cosine {record.rotation_cosine:.2f} for rotation, {record.translation_cosine:.2f} for translation"


app = typer.Typer(
    name=NAME,
    help="Train a network on one patient's CT, before the operation.",
    epilog=epilog_text([_REGRESSOR_EXAMPLE, _SIMILARITY_EXAMPLE]),
    no_args_is_help=True,
)
add_command(app, "regressor", regressor, REGRESSOR_EPILOG)
add_command(app, "similarity", similarity, SIMILARITY_EPILOG)
