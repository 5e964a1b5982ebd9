"""`fluoro-reg simulate`: simulate X-rays of a CT with known poses, as case folders or as a rosbag2."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluoro_reg.cli.bodies_arguments import BodiesArguments
from fluoro_reg.cli.common_arguments import CommonArguments, Device
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import CT_HELP
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.cli.typer_command import epilog_text
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.simulation.bags import BagOptions
    from fluoro_reg.simulation.body_motion import BodyFiles
    from fluoro_reg.simulation.cases import CaseOptions

NAME = "simulate"
EPILOG = epilog_text(
    [
        ("Simulate 30 cases", "fluoro-reg simulate --ct ct/ --out cases/ --cases 30 --size 256 --start-mm 10 25"),
        (
            "Simulate cases with three ranges of initial errors and four image variants",
            "fluoro-reg simulate --ct ct/ --out cases/ --cases 60 \\\n"
            "--set 'start_mm=[[5,10],[10,25],[25,60]]' \\\n"
            "--set 'variants=[standard,noisy,truncated,instruments]'",
        ),
        (
            "Simulate cases in which bones have moved",
            "fluoro-reg simulate --ct ct/ --bodies bodies.yaml --labels segmentation.nii.gz --out cases/",
        ),
        (
            "Simulate a recording of a moving C-arm",
            "fluoro-reg simulate --ct ct/ --out recording/ --bag --frames 40 --set motion_mm=12",
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class SimulationArguments:
    """Whether to simulate cases or a bag, and how many X-rays of which views."""

    cases: Annotated[int | None, typer.Option(min=1, metavar="N", help="Write N case folders. Default: 30.")] = None
    bag: Annotated[bool, typer.Option("--bag", help="Write a rosbag2 of a moving C-arm instead of cases.")] = False
    frames: Annotated[int | None, typer.Option(min=1, metavar="N", help="Bag: number of frames. Default: 40.")] = None
    size: Annotated[
        int | None, typer.Option(min=32, metavar="PX", help="Width and height of the images in px. Default: 256.")
    ] = None
    start_mm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Cases: range of the initial pose's error (mTRE in mm), sampled uniformly; several ranges, used in turn, with "
            "--set start_mm=[[LOW,HIGH],...]. Default: 10 25.",
        ),
    ] = None
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="PART",
            help="Cases: the part of the CT to register, written next to the cases: none, spine-field, narrow-field or bone. "
            "The X-rays show the whole CT. Default: none.",
        ),
    ] = None
    landmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="L.json",
            help="landmarks.json (patient frame, mm): the points for the mTRE. Default: points on bone that the X-ray shows.",
        ),
    ] = None
    range: Annotated[
        Path | None,
        typer.Option(
            metavar="C.yaml",
            help="Cases: carm.yaml, the range of views, as for 'train regressor'. Default: around AP, 30 % oblique views.",
        ),
    ] = None

    def settings(self, common: CommonArguments) -> "CaseOptions | BagOptions":
        """Return the settings for a bag if `--bag` is given, otherwise those for cases.

        Raises:
            InputError: An option does not apply to what is written, or a value is not allowed.
        """
        from fluoro_reg.simulation.bags import BagOptions
        from fluoro_reg.simulation.cases import CaseOptions

        if common.device is Device.CUDA:
            raise InputError("simulate runs on the CPU only; leave --device out")
        given = {"size_px": self.size, "seed": common.seed}
        if not self.bag:
            if self.frames is not None:
                raise InputError("--frames applies to a bag only; add --bag, or use --cases N")
            bands = None if self.start_mm is None else [self.start_mm]
            return common.settings(CaseOptions, {**given, "count": self.cases, "start_mm": bands, "crop": self.crop})
        if any(value is not None for value in (self.cases, self.start_mm, self.range, self.crop)):
            raise InputError(
                "--cases, --start-mm, --range and --crop apply to case folders only; for a bag use --frames N and "
                "--set start_mm=MM"
            )
        return common.settings(BagOptions, {**given, "frames": self.frames})


def command(
    ct: Annotated[Path, typer.Option("--ct", metavar="CT", help=CT_HELP)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, new or empty.")],
    simulation: SimulationArguments,
    several: BodiesArguments,
    common: CommonArguments,
) -> int:
    """Simulate X-rays of a CT with known poses: case folders, or a rosbag2 with --bag.

    The simulation is independent of the renderer that registration uses: it models a polyenergetic beam, scatter, blur, noise
    and collimation.

    A case folder holds image.png (16 bit, transmitted), camera.json, initial.json, truth.json, landmarks.json (mm) and
    case.json. With --bodies, every bone is moved at random by the ranges in bodies.yaml (motion), and bodies.json holds the
    true pose of each. Next to a bag are truth.json (the pose at every stamp, with --bodies also of every bone), initial.json,
    camera.json and landmarks.json.
    """
    from fluoro_reg.carm.range import CarmRange
    from fluoro_reg.config import from_mapping, load_yaml
    from fluoro_reg.formats.landmarks import read_landmarks
    from fluoro_reg.simulation.bags import BagOptions, simulate_bag
    from fluoro_reg.simulation.cases import simulate_cases

    output = Output(common.json)
    options = simulation.settings(common)
    bodies = _body_files(several)
    landmarks = None if simulation.landmarks is None else read_landmarks(simulation.landmarks)
    file = simulation.range
    carm = None if file is None else from_mapping(CarmRange, load_yaml(file), file.name)
    result: dict[str, Any] = {"out": out.name}
    with output.progress("X-rays") as progress:
        if isinstance(options, BagOptions):
            files = simulate_bag(ct, out, options, landmarks, progress.update, bodies)
            result |= {
                "frames": options.frames,
                "bag": files.bag.name,
                "initial": files.initial.name,
                "truth": files.truth.name,
            }
        else:
            folders = simulate_cases(ct, out, options, landmarks, progress.update, carm, bodies)
            result["cases"] = [folder.name for folder in folders]
    summary = {**result, "cases": len(result["cases"])} if "cases" in result else result
    output.show(result, key_value_table(summary))
    return ExitStatus.ACCEPTED


def _body_files(several: BodiesArguments) -> "BodyFiles | None":
    """The files of the bodies to move; None without --bodies."""
    from fluoro_reg.simulation.body_motion import BodyFiles

    if several.config() is None:
        return None
    if several.bodies is None or several.labels is None:
        raise InputError("bodies are moved within the CT by their labels; give the segmentation with --labels SEG")
    return BodyFiles(several.bodies, several.labels)
