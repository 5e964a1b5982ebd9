"""One run of the demo: folder, scene, processes, answers, report."""

import json
import queue
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import fluoro_reg
from fluoro_reg.cli.demo_screen import DemoScreen
from fluoro_reg.cli.output import json_line
from fluoro_reg.cli.ros_processes import RosProcessError, RosProcesses, ros_processes
from fluoro_reg.config import to_mapping
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.bag import CAMERA_INFO_TOPIC, IMAGE_TOPIC
from fluoro_reg.evaluation.demo import (
    Answer,
    DemoOptions,
    DemoScene,
    DemoTruth,
    FrameRecord,
    Heard,
    make_phantom,
    make_recording,
    shortcomings,
    summary,
)

MARK = "demo.json"
LOGS = ("node.log", "listener.log", "player.log")
WRITTEN = (MARK, "ct", "recording", "node.yaml", *LOGS, "frames.json", "summary.json", "report.html")
READY_TIMEOUT_S = 240.0  # a cold machine compiles the renderer first
SILENCE_TIMEOUT_S = 180.0
LATE_TRANSFORM_S = 5.0
RESULT_TOPIC = "/registration_node/result"
NODE, LISTENER, PLAYER = "node", "listener", "player"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of it; without shortcomings it did what it should."""

    summary: dict[str, Any]
    shortcomings: list[str]
    records: list[FrameRecord]


def run_demo(folder: Path, options: DemoOptions, screen: DemoScreen) -> DemoResult:
    """The whole demo.

    Raises:
        InputError: the folder holds something else, or a setting is unusable.
        RosProcessError: one of the ROS processes died or fell silent.
    """
    prepare(folder, options)
    with screen.step("a pelvis CT, written as a DICOM series"):
        ct = make_phantom(folder, options)
    with screen.step(f"a rosbag2 of a moving C-arm, {options.recording.frames} X-rays", options.recording.frames) as progress:
        scene = make_recording(ct, options, progress)
    write_node_parameters(folder, scene, options)
    watch = Watch(DemoTruth.read(scene.recording))
    with ros_processes(folder) as processes:
        with screen.step("registration_node and tf_listener, as processes of their own"):
            start_node_and_listener(processes)
        processes.start(PLAYER, "player", "recording/bag", "--wait", "120", "--await", "/tf", "--answers", RESULT_TOPIC)
        with screen.frames(options.recording.frames) as show:
            watch.follow(processes, show)
    records = watch.records()
    result = DemoResult(summary(records, len(watch.heard)), shortcomings(records, watch.heard), records)
    (folder / "summary.json").write_text(json_line(result.summary), encoding="utf-8")
    return result


def prepare(folder: Path, options: DemoOptions) -> None:
    """A folder with nothing in it but the mark of a demo; what an earlier demo wrote is removed, nothing else ever is.

    Raises:
        InputError: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder.name} is a file; give a folder to write")
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in WRITTEN)
    if strangers or (any(folder.iterdir()) and not (folder / MARK).is_file()):
        what = f" ({strangers[0]})" if strangers else ""
        raise InputError(f"{folder.name} holds something that is no demo's{what}; give a new or empty folder")
    for name in WRITTEN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    content = {"program": "fluoro-reg demo", "version": fluoro_reg.__version__, "configuration": to_mapping(options)}
    (folder / MARK).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_node_parameters(folder: Path, scene: DemoScene, options: DemoOptions) -> None:
    """A parameters file as a user would write it; paths are relative to the folder, in which the node runs."""
    parameters = {
        "autostart": True,
        "ct.path": str(scene.ct.relative_to(folder)),
        "initial.path": str(scene.recording.initial.relative_to(folder)),
        "intensity": "transmitted",
        "qos.image": "reliable",
        **json.loads(json.dumps(to_mapping(options.registration))),
    }
    content = {"registration_node": {"ros__parameters": parameters}}
    (folder / "node.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def start_node_and_listener(processes: RosProcesses) -> None:
    """Returns when the node listens to images and the listener to the node: from then on nothing is missed."""
    remapped = [f"image:={IMAGE_TOPIC}", f"camera_info:={CAMERA_INFO_TOPIC}"]
    remappings = [argument for rule in remapped for argument in ("-r", rule)]
    node = processes.start(NODE, "node", "--ros-args", "--params-file", "node.yaml", *remappings)
    listener = processes.start(LISTENER, "tf_listener", "--child", "patient")
    node.wait_until_it_says("active:", READY_TIMEOUT_S)
    listener.wait_until_it_says("connected:", READY_TIMEOUT_S)


@dataclass(slots=True)
class Watch:
    """Puts together what the player and the listener print, by stamp."""

    truth: DemoTruth
    answers: dict[int, Answer] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    _shown: set[int] = field(default_factory=set)

    def follow(self, processes: RosProcesses, show: Callable[[FrameRecord], None]) -> None:
        """Until the player has ended and every accepted frame was heard, or is late beyond hope.

        Raises:
            RosProcessError: a process died, or nothing happens any more.
        """
        playing, last = True, time.monotonic()
        while playing or (self._awaited() and time.monotonic() - last < LATE_TRANSFORM_S):
            try:
                name, line = processes.events.get(timeout=0.2)
            except queue.Empty:
                processes.check()
                if time.monotonic() - last > SILENCE_TIMEOUT_S:
                    raise RosProcessError(f"nothing has happened for {SILENCE_TIMEOUT_S:g} s; see node.log") from None
                continue
            last = time.monotonic()
            if line is None:
                playing = playing and name != PLAYER
            else:
                self._take(name, line)
                self._show_complete(show)
        processes.check()

    def records(self) -> list[FrameRecord]:
        """All frames, in order."""
        heard = {transform.stamp_ns: transform for transform in self.heard}
        return [self.truth.record(stamp, self.answers.get(stamp), heard.get(stamp)) for stamp in self.truth.poses]

    def _take(self, name: str, line: dict[str, Any]) -> None:
        if name == LISTENER:
            self.heard.append(Heard.from_json(line))
        elif name == PLAYER:
            answer = Answer.from_json(line)
            self.answers[answer.stamp_ns] = answer

    def _awaited(self) -> set[int]:
        accepted = {stamp for stamp, answer in self.answers.items() if answer.accepted}
        return accepted - {transform.stamp_ns for transform in self.heard}

    def _show_complete(self, show: Callable[[FrameRecord], None]) -> None:
        awaited = self._awaited()
        heard = {transform.stamp_ns: transform for transform in self.heard}
        for stamp in self.answers:
            if stamp not in self._shown and stamp not in awaited and stamp in self.truth.poses:
                self._shown.add(stamp)
                show(self.truth.record(stamp, self.answers[stamp], heard.get(stamp)))
