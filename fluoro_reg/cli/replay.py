"""`fluoro-reg replay`: a recorded rosbag2 or a DICOM cine through the same tracker as the node, every frame, without ROS.

One line a frame, as it is ready. A pose is given only where it is accepted, so that nobody takes a rejected one by mistake. A
frame that cannot be read (damaged, of another size than its CameraInfo) is a rejected frame; when no frame at all can be read,
the recording is unusable and nothing is printed.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.inputs import CTArguments, InitialPoseArguments, read_initial_pose, read_volume
from fluoro_reg.cli.options import Common
from fluoro_reg.cli.output import Output, table_of
from fluoro_reg.cli.recipe import RecipeOptions
from fluoro_reg.cli.recordings import SourceOptions
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.formats.recordings import RecordedFrame
    from fluoro_reg.registration import RegistrationResult, Tracker

NAME = "replay"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg replay bag_folder --ct ct_folder --initial initial.json\n\n"
    "$ fluoro-reg replay run.mcap --ct ct_folder --initial initial.json --image-topic /fluoro/image "
    "--camera-info-topic /fluoro/camera_info --json > poses.jsonl\n\n"
    "$ fluoro-reg replay cine.dcm --camera camera.json --ct ct_folder --initial initial.json\n\n"
    "Exit status: 0 at least one frame accepted; 1 every frame rejected; 2 unusable input."
)


def command(
    recording: Annotated[
        Path,
        typer.Argument(metavar="BAG|CINE", help="rosbag2: its folder, or one .db3 or .mcap file; or an X-ray cine in DICOM."),
    ],
    source: SourceOptions,
    ct: CTArguments,
    start: InitialPoseArguments,
    recipe: RecipeOptions,
    common: Common,
) -> int:
    """Run a recorded rosbag2 (sqlite3 or mcap) or a DICOM cine through the tracker of the node, every frame, without ROS.

    --json prints one JSON line a frame: stamp_ns (the image's; a cine's count from 0), accepted, reason, camera_from_patient
    (4 x 4, mm; null unless accepted), latency_s. Frames start from the last accepted pose, and from --initial when it is lost.
    """
    from fluoro_reg.formats.recordings import recorded_frames
    from fluoro_reg.registration import Registrar, Tracker

    output = Output(common.json)
    options = recipe.settings(common, start.weights())
    initial = read_initial_pose(start, options)
    frames = recorded_frames(recording, source.read())
    volume = read_volume(ct, output)
    tracker = Tracker(Registrar(volume, options), initial)
    report = _Report(output)
    with output.progress() as progress:
        task = progress.add_task("frames", total=None)
        for frame in frames:
            report.add(_answer(tracker, frame))
            progress.advance(task)
    return report.finish()


@dataclass(frozen=True, slots=True)
class _Answer:
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


def _answer(tracker: "Tracker", frame: "RecordedFrame") -> _Answer:
    begin = time.perf_counter()
    try:
        result = tracker.update(frame.xray())
    except InputError as error:
        return _Answer(frame.stamp_ns, str(error), time.perf_counter() - begin, None)
    return _Answer(frame.stamp_ns, result.reason, time.perf_counter() - begin, result)


@dataclass(slots=True)
class _Report:
    """Prints frames as they come, and what they come to."""

    output: Output
    frames: list[_Answer] = field(default_factory=list)
    readable: bool = False

    def add(self, frame: _Answer) -> None:
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

    def _show(self, frame: _Answer) -> None:
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
