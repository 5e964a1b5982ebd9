"""`fluoro-reg replay`: a recorded rosbag2 through the same tracker as the node, every frame, without ROS.

One line a frame, as it is ready. A pose is given only where it is accepted, so that nobody takes a rejected one by mistake. A
frame that cannot be read (damaged, of another size than its CameraInfo) is a rejected frame; when no frame at all can be read,
the bag is unusable and nothing is printed.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.inputs import INTENSITY_HELP, CTOptions, StartOptions, read_start, read_volume
from fluoro_reg.cli.options import Common, IntensityChoice
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.cli.recipe import RecipeOptions
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.registration import RegistrationResult, Tracker
    from fluoro_reg.xray.image import XrayImage

NAME = "replay"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg replay bag_folder --ct ct_folder --initial initial.json\n\n"
    "$ fluoro-reg replay run.mcap --ct ct_folder --initial initial.json --image-topic /fluoro/image "
    "--camera-info-topic /fluoro/camera_info --json > poses.jsonl\n\n"
    "Exit status: 0 at least one frame accepted; 1 every frame rejected; 2 unusable input."
)


@dataclass(frozen=True, slots=True)
class BagOptions:
    """Which bag, and what in it."""

    bag: Annotated[Path, typer.Argument(metavar="BAG", help="rosbag2: its folder, or one .db3 or .mcap file.")]
    image_topic: Annotated[str, typer.Option(metavar="TOPIC", help="sensor_msgs/Image or CompressedImage.")] = "/carm/image_raw"
    camera_info_topic: Annotated[
        str, typer.Option(metavar="TOPIC", help="sensor_msgs/CameraInfo; belongs to the image of its very stamp.")
    ] = "/carm/camera_info"
    intensity: Annotated[IntensityChoice, typer.Option(metavar="KIND", case_sensitive=False, help=INTENSITY_HELP)] = (
        IntensityChoice.AUTO
    )


def command(bag: BagOptions, ct: CTOptions, start: StartOptions, recipe: RecipeOptions, common: Common) -> int:
    """Run a recorded rosbag2 (sqlite3 or mcap) through the tracker of the node, every frame, without ROS.

    --json prints one JSON line a frame: stamp_ns (the image's), accepted, reason, camera_from_patient (4 x 4, mm; null unless
    accepted), latency_s. Frames start from the last accepted pose, and from --initial when that is lost.
    """
    from fluoro_reg.registration import Registrar, Tracker

    output = Output(common.json)
    options = recipe.settings(common, start.model)
    initial = read_start(start, options)
    messages = _read_messages(bag)
    volume = read_volume(ct, output)
    tracker = Tracker(Registrar(volume, options), initial)
    report = _Report(output)
    with output.progress() as progress:
        task = progress.add_task("frames", total=None)
        for stamp_ns, image, camera_info in messages:
            report.add(_frame(tracker, stamp_ns, image, camera_info, bag.intensity))
            progress.advance(task)
    return report.finish()


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame's answer; `result` is None where the image could not be read."""

    stamp_ns: int
    reason: str
    latency_s: float
    result: "RegistrationResult | None"

    @property
    def accepted(self) -> bool:
        return self.result is not None and self.result.accepted

    def to_json(self) -> dict[str, Any]:
        """The line that interfaces fix."""
        pose = self.result.camera_from_patient if self.result is not None and self.result.accepted else None
        return {
            "stamp_ns": self.stamp_ns,
            "accepted": self.accepted,
            "reason": self.reason,
            "camera_from_patient": None if pose is None else pose.matrix().tolist(),
            "latency_s": self.latency_s,
        }


def _read_messages(bag: BagOptions) -> Iterator[tuple[int, Any, Any]]:
    """The frames, the first of them already read: a bag without any is refused before the CT is read."""
    from itertools import chain

    from fluoro_reg.evaluation.bag import read_frames

    frames = read_frames(bag.bag, bag.image_topic, bag.camera_info_topic)
    return chain([next(frames)], frames)


def _frame(tracker: "Tracker", stamp_ns: int, image: Any, camera_info: Any, intensity: IntensityChoice) -> _Frame:
    begin = time.perf_counter()
    try:
        result = tracker.update(_xray(image, camera_info, intensity))
    except InputError as error:
        return _Frame(stamp_ns, str(error), time.perf_counter() - begin, None)
    return _Frame(stamp_ns, result.reason, time.perf_counter() - begin, result)


def _xray(image: Any, camera_info: Any, intensity: IntensityChoice) -> "XrayImage":
    from fluoro_reg.xray.encodings import intrinsics_from_message, pixels_from_compressed, pixels_from_message
    from fluoro_reg.xray.image import Intensity
    from fluoro_reg.xray.reader import xray_from_pixels

    compressed = image.__msgtype__ == "sensor_msgs/msg/CompressedImage"
    pixels = pixels_from_compressed(image) if compressed else pixels_from_message(image)
    return xray_from_pixels(pixels, intrinsics_from_message(camera_info), Intensity(intensity.value))


@dataclass(slots=True)
class _Report:
    """Prints frames as they come, and what they come to."""

    output: Output
    frames: list[_Frame] = field(default_factory=list)
    readable: bool = False

    def add(self, frame: _Frame) -> None:
        """Holds unreadable frames back until one is readable: if none is, standard output stays empty."""
        self.frames.append(frame)
        if self.readable:
            self._show(frame)
        elif frame.result is not None:
            self.readable = True
            for held in self.frames:
                self._show(held)

    def finish(self) -> int:
        """The summary for people, and the exit status."""
        if not self.readable:
            raise InputError(f"none of the {len(self.frames)} frames can be read; the first: {self.frames[0].reason}")
        accepted = sum(frame.accepted for frame in self.frames)
        if not self.output.as_json:
            self.output.answer.print(self._summary(accepted))
        return ExitStatus.ACCEPTED if accepted else ExitStatus.REJECTED

    def _show(self, frame: _Frame) -> None:
        seconds = (frame.stamp_ns - self.frames[0].stamp_ns) * 1e-9
        verdict = ("accepted", "green") if frame.accepted else ("rejected", "red")
        line = Text.assemble(f"{seconds:9.3f} s  ", verdict, f"  {1000 * frame.latency_s:6.0f} ms  {frame.reason}")
        self.output.show(frame.to_json(), line)

    def _summary(self, accepted: int) -> Group:
        latencies = sorted(frame.latency_s for frame in self.frames)
        rejections = Counter(
            frame.result.outcome.value if frame.result else "unreadable" for frame in self.frames if not frame.accepted
        )
        content = {
            "frames": len(self.frames),
            "accepted": accepted,
            "rejected": dict(rejections) or "none",
            "median latency": f"{latencies[len(latencies) // 2]:.3f} s",
            "longest latency": f"{latencies[-1]:.3f} s",
        }
        return Group(Text(), table_of(content))
