"""`fluoro-reg replay`: register every frame of a recording with the node's tracker, without ROS.

Each frame is one line of output, printed as soon as it is ready. A line has a pose only if the pose is accepted, so that nobody
uses a rejected one by mistake. A frame that cannot be read (damaged, or of another size than its CameraInfo) is a rejected
frame. If no frame can be read, the recording is unusable and nothing is printed.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from fluoro_reg.cli.bodies_arguments import BodiesArguments
from fluoro_reg.cli.common_arguments import CommonArguments
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import CTArguments, read_volume
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.cli.recording_arguments import RecordingArguments
from fluoro_reg.cli.registration_arguments import RegistrationArguments
from fluoro_reg.cli.start_arguments import InitialPoseArguments, SearchArguments, read_initial_pose
from fluoro_reg.cli.typer_command import epilog_text
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.formats.recordings import RecordedFrame
    from fluoro_reg.registration import RegistrationResult, Tracker
    from fluoro_reg.registration.bodies.tracker import BodiesTracker

NAME = "replay"
EPILOG = epilog_text(
    [
        ("Register every frame of a bag", "fluoro-reg replay bag_folder/ --ct ct/ --initial initial.json"),
        (
            "Name the topics, and save the poses",
            "fluoro-reg replay run.mcap --ct ct/ --initial initial.json --image-topic /fluoro/image \\\n"
            "--camera-info-topic /fluoro/camera_info --json > poses.jsonl",
        ),
        (
            "Let a single or latched CameraInfo serve all images",
            "fluoro-reg replay run.mcap --camera-info latest --ct ct/ --initial initial.json",
        ),
        (
            "Register every frame of a DICOM cine",
            "fluoro-reg replay cine.dcm --camera camera.json --ct ct/ --initial initial.json",
        ),
        (
            "Follow every bone on its own",
            "fluoro-reg replay bag_folder/ --ct ct/ --bodies bodies.yaml --labels seg.nii.gz --initial initial.json",
        ),
    ],
    "0 at least one frame is accepted; 1 every frame is rejected; 2 unusable input.",
)


def command(
    recording: Annotated[
        Path,
        typer.Argument(
            metavar="RECORDING",
            help="A rosbag2 folder or file (.db3, .mcap, also compressed), a ROS 1 bag, or a cine or single X-ray in DICOM.",
        ),
    ],
    source: RecordingArguments,
    ct: CTArguments,
    initial_pose: InitialPoseArguments,
    searched: SearchArguments,
    several: BodiesArguments,
    registration: RegistrationArguments,
    common: CommonArguments,
) -> int:
    """Register every frame of a rosbag2 or a DICOM cine with the node's tracker, without ROS.

    A frame starts from the last accepted pose; the first frame, and frames after the patient is lost, start from --initial or
    --model. Without both, the views of a C-arm are searched (--view, --range). No frame is skipped: an image without a camera
    is a rejected frame.

    --json prints one JSON object on one line for each frame: stamp_ns (of the image; in a cine from 0), accepted, reason,
    camera_from_patient (4 x 4, mm; null unless accepted) and latency_s. With --bodies, these are of the reference, and bodies
    holds accepted, outcome, reason and camera_from_patient of every body by name.
    """
    from fluoro_reg.formats.recordings import read_recording
    from fluoro_reg.registration import Registrar, Tracker
    from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
    from fluoro_reg.registration.bodies.tracker import BodiesTracker

    output = Output(common.json)
    if files := searched.files():
        raise InputError(f"a recording is a single view, but --view names the file {files[0].name}; give the name of a range")
    options = registration.settings(common, {**initial_pose.weights(), "initial": searched.settings()})
    initial = read_initial_pose(initial_pose, options)
    bodies = several.config()
    frames = read_recording(recording, source.read(), output.warn)
    volume = read_volume(ct, output)
    tracker: Tracker | BodiesTracker
    if bodies is None:
        tracker = Tracker(Registrar(volume, options), initial)
    else:
        tracker = BodiesTracker(BodiesRegistrar(volume, bodies, *several.read(bodies, output), options), initial)
    printer = _FramePrinter(output)
    with output.progress("frames") as progress:
        for frame in frames:
            printer.add(_register_frame(tracker, frame, output.warn_once))
            progress.advance()
    return printer.finish()


@dataclass(frozen=True, slots=True)
class _FrameResult:
    """The result of one frame; `result` is None if the image could not be read."""

    stamp_ns: int
    reason: str
    latency_s: float
    result: "RegistrationResult | None"

    @property
    def accepted(self) -> bool:
        return self.result is not None and self.result.accepted

    def to_json(self) -> dict[str, Any]:
        """The keys of one line of JSON; other programs read them."""
        bodies = {} if self.result is None else self.result.bodies
        each = {name: {"outcome": body.outcome.value, **_verdict(body)} for name, body in bodies.items()}
        unread = {"accepted": False, "reason": self.reason, "camera_from_patient": None}
        return {
            "stamp_ns": self.stamp_ns,
            **(unread if self.result is None else _verdict(self.result)),
            "latency_s": self.latency_s,
            **({"bodies": each} if each else {}),
        }


def _verdict(result: "RegistrationResult") -> dict[str, Any]:
    """Whether a result is accepted, why, and its pose, which is null unless it is accepted."""
    pose = result.camera_from_patient if result.accepted else None
    matrix = None if pose is None else pose.matrix().tolist()
    return {"accepted": result.accepted, "reason": result.reason, "camera_from_patient": matrix}


def _register_frame(tracker: "Tracker | BodiesTracker", frame: "RecordedFrame", warn: Callable[[str], object]) -> _FrameResult:
    start = time.perf_counter()
    try:
        xray = frame.xray()
        for sentence in xray.warnings:
            warn(sentence)
        result = tracker.update(xray, frame.stamp_ns)
    except InputError as error:
        return _FrameResult(frame.stamp_ns, str(error), time.perf_counter() - start, None)
    return _FrameResult(frame.stamp_ns, result.reason, time.perf_counter() - start, result)


@dataclass(slots=True)
class _FramePrinter:
    """Prints every frame's result, then a summary."""

    output: Output
    frames: list[_FrameResult] = field(default_factory=list)
    any_readable: bool = False

    def add(self, frame: _FrameResult) -> None:
        """Print the frame, once any frame is readable. If none ever is, standard output stays empty."""
        self.frames.append(frame)
        if self.any_readable:
            self._print(frame)
        elif frame.result is not None:
            self.any_readable = True
            for earlier in self.frames:
                self._print(earlier)

    def finish(self) -> int:
        """Print the summary, unless the output is JSON, and return the exit status."""
        if not self.any_readable:
            raise InputError(f"none of the {len(self.frames)} frames can be read; the first: {self.frames[0].reason}")
        accepted = sum(frame.accepted for frame in self.frames)
        self.output.show_warnings()
        if not self.output.as_json:
            self.output.stdout.print(self._summary(accepted))
        return ExitStatus.ACCEPTED if accepted else ExitStatus.REJECTED

    def _print(self, frame: _FrameResult) -> None:
        seconds = (frame.stamp_ns - self.frames[0].stamp_ns) * 1e-9
        verdict = ("accepted", "green") if frame.accepted else ("rejected", "red")
        line = Text.assemble(f"{seconds:9.3f} s  ", verdict, f"  {1000 * frame.latency_s:6.0f} ms  {frame.reason}")
        for name, body in ({} if frame.result is None else frame.result.bodies).items():
            line.append(f"  {name}", "green" if body.accepted else "red")
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
            **{f"accepted {name}": count for name, count in self._accepted_by_body().items()},
        }
        return Group(Text(), key_value_table(content))

    def _accepted_by_body(self) -> Counter[str]:
        """The accepted frames of every body."""
        results = [frame.result for frame in self.frames if frame.result is not None]
        counts = Counter({name: 0 for result in results for name in result.bodies})
        counts.update(name for result in results for name, body in result.bodies.items() if body.accepted)
        return counts
