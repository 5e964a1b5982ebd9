"""`fluoro-reg simulate`: X-rays with known poses from a CT, to try a method on one's own; case folders or a rosbag2."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.options import Common, Device
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.simulation.bags import BagOptions
    from fluoro_reg.simulation.cases import CaseOptions

NAME = "simulate"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg simulate --ct ct_folder --out cases --cases 30 --size 256 --start-mm 10 25\n\n"
    "$ fluoro-reg simulate --ct ct_folder --out cases --cases 60 --set start_mm=[[5,10],[10,25],[25,60]] "
    "--set variants=[standard,noisy,mismatch,collimated,truncated,instruments]\n\n"
    "$ fluoro-reg simulate --ct ct_folder --out recording --bag --frames 40 --set motion_mm=12 --set storage=mcap"
)


@dataclass(frozen=True, slots=True)
class KindOptions:
    """Cases or a bag, and how many."""

    cases: Annotated[int | None, typer.Option(min=1, metavar="N", help="Write N case folders. Default: 30.")] = None
    bag: Annotated[bool, typer.Option("--bag", help="Write a rosbag2 of a moving C-arm instead of cases.")] = False
    frames: Annotated[int | None, typer.Option(min=1, metavar="N", help="Frames of the bag. Default: 40.")] = None
    size: Annotated[int | None, typer.Option(min=32, metavar="PX", help="Width and height, px. Default: 256.")] = None
    start_mm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Cases: the start's error is drawn evenly from this band of mTRE, mm; several bands, taken in turn, by "
            "--set start_mm=[[LOW,HIGH],...]. Default: 10 25.",
        ),
    ] = None
    landmarks: Annotated[
        Path | None,
        typer.Option(metavar="L.json", help="landmarks.json, patient mm, for the mTRE. Default: points of bone in the view."),
    ] = None
    range: Annotated[
        Path | None,
        typer.Option(
            metavar="C.yaml",
            help="Cases: carm.yaml, the range of views, as for 'train regressor'. Default: about AP, three in ten oblique.",
        ),
    ] = None

    def settings(self, common: Common) -> "CaseOptions | BagOptions":
        """The settings of one kind or the other, layered.

        Raises:
            InputError: options of one kind with the other, or a bad value.
        """
        from fluoro_reg.simulation.bags import BagOptions
        from fluoro_reg.simulation.cases import CaseOptions

        if common.device is Device.CUDA:
            raise InputError("simulate computes on the CPU only; leave --device out")
        typed = {"size_px": self.size, "seed": common.seed}
        if not self.bag:
            if self.frames is not None:
                raise InputError("--frames belongs to a bag; add --bag, or use --cases N")
            bands = None if self.start_mm is None else [self.start_mm]
            return common.settings(CaseOptions, {**typed, "count": self.cases, "start_mm": bands})
        if any(given is not None for given in (self.cases, self.start_mm, self.range)):
            raise InputError(
                "--cases, --start-mm and --range belong to case folders; for a bag use --frames N and --set start_mm=MM"
            )
        return common.settings(BagOptions, {**typed, "frames": self.frames})


def command(
    ct: Annotated[Path, typer.Option(metavar="CT", help="CT: a folder or file of DICOM, or a NIfTI, NRRD or MHA file.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New or empty folder to write.")],
    kind: KindOptions,
    common: Common,
) -> int:
    """Simulate X-rays of a CT with known poses: case folders, or a rosbag2 with --bag.

    It is no copy of the registration's renderer: several energies, scatter, blur, noise, collimation. A case folder holds
    image.png (16 bit, transmitted), camera.json, initial.json, truth.json, landmarks.json (mm) and case.json; a bag comes with
    truth.json (a pose a stamp), initial.json, camera.json and landmarks.json beside it.
    """
    from fluoro_reg.carm.range import CarmRange
    from fluoro_reg.config import from_mapping, load_yaml
    from fluoro_reg.formats.landmarks import read_landmarks
    from fluoro_reg.simulation.bags import BagOptions, simulate_bag
    from fluoro_reg.simulation.cases import simulate_cases

    output = Output(common.json)
    options = kind.settings(common)
    landmarks = None if kind.landmarks is None else read_landmarks(kind.landmarks)
    carm = None if kind.range is None else from_mapping(CarmRange, load_yaml(kind.range), kind.range.name)
    answer: dict[str, Any] = {"out": out.name}
    with output.progress() as progress:
        task = progress.add_task("X-rays", total=None)

        def advance(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        if isinstance(options, BagOptions):
            files = simulate_bag(ct, out, options, landmarks, advance)
            answer |= {
                "frames": options.frames,
                "bag": files.bag.name,
                "initial": files.initial.name,
                "truth": files.truth.name,
            }
        else:
            answer["cases"] = [folder.name for folder in simulate_cases(ct, out, options, landmarks, advance, carm)]
    shown = {**answer, "cases": len(answer["cases"])} if "cases" in answer else answer
    output.show(answer, table_of(shown))
    return ExitStatus.ACCEPTED
