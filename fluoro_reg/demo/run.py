"""A run of the demo: folder, scene, ROS processes, results and report."""

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fluoro_reg.demo.assessment import (
    PATIENT_FRAME,
    Answer,
    DemoTruth,
    FrameRecord,
    ReceivedTransform,
    failed_checks,
    summarise,
)
from fluoro_reg.demo.files import DemoOutcome, prepare_folder, write_node_parameters, write_report, write_results
from fluoro_reg.demo.initial_pose import with_weights
from fluoro_reg.demo.ros_processes import RosProcessError, RosProcesses, ros_processes
from fluoro_reg.demo.scene import DemoOptions, make_phantom, make_recording
from fluoro_reg.demo.screen import AbstractScreen
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bags import CAMERA_INFO_TOPIC, IMAGE_TOPIC
from fluoro_reg.registration.method import load_method
from fluoro_reg.rendering import resolve_device

READY_TIMEOUT_S = 240.0  # a cold machine compiles the renderer first
SILENCE_TIMEOUT_S = 180.0
LATE_TRANSFORM_S = 5.0
TOPICS = {"image": IMAGE_TOPIC, "camera_info": CAMERA_INFO_TOPIC}
RESULT_TOPIC = "/registration_node/result"
NODE, LISTENER, PLAYER = "node", "listener", "player"


def run_demo(folder: Path, options: DemoOptions, screen: AbstractScreen) -> DemoOutcome:
    """Run the demo and write its report.

    Args:
        folder: Folder to write; an earlier demo in it is replaced.
        options: Phantom, recording and registration.
        screen: Shows the progress.

    Raises:
        InputError: The folder contains other files, or a setting is unusable.
        RosProcessError: A ROS process died or stopped responding.
    """
    check_options(options)
    prepare_folder(folder, options)
    with screen.step("a pelvis CT, written as a DICOM series"):
        ct = make_phantom(folder, options)
    with screen.step(f"a rosbag2 of a moving C-arm, {options.recording.frames} X-rays", options.recording.frames) as progress:
        scene = make_recording(ct, options, progress)
    options = with_weights(folder, ct, options)
    write_node_parameters(folder, scene, options)
    collector = ResultCollector(DemoTruth.read(scene))
    with ros_processes(folder) as processes:
        initial = "without an initial pose" if options.registration.model else "with an initial pose"
        with screen.step(f"registration_node {initial}, and tf_listener"):
            start_node_and_listener(processes, () if options.bodies else ("--child", PATIENT_FRAME))
        processes.start(PLAYER, "player", "recording/bag", "--wait", "120", "--await", "/tf", "--answers", RESULT_TOPIC)
        with screen.frames(options.recording.frames) as show:
            collector.collect(processes, show)
    records, transforms = collector.records(), [one for one in collector.transforms if one.child == PATIENT_FRAME]
    outcome = DemoOutcome(records, summarise(records, len(transforms)), failed_checks(records, transforms))
    write_results(folder, outcome.records, outcome.summary)
    screen.pause()
    with screen.step("the report"):
        write_report(folder, scene, collector.truth, outcome, options, TOPICS)
    return outcome


def check_options(options: DemoOptions) -> None:
    """Check the options that would otherwise fail only late in the run.

    Raises:
        InputError: The method or device does not exist, or the recording begins with a blank frame.
    """
    load_method(options.registration.method)
    resolve_device(options.registration.device)
    if 0 in options.recording.blank:
        raise InputError("recording.blank must not contain frame 0, with which the demo begins; remove it")


def start_node_and_listener(processes: RosProcesses, listened: Sequence[str]) -> None:
    """Start both and wait until the node receives images and the listener receives transforms, so that nothing is missed."""
    remappings = [argument for name, topic in TOPICS.items() for argument in ("-r", f"{name}:={topic}")]
    node = processes.start(NODE, "node", "--ros-args", "--params-file", "node.yaml", *remappings)
    listener = processes.start(LISTENER, "tf_listener", *listened)
    node.wait_for_log("active:", READY_TIMEOUT_S)
    listener.wait_for_log("connected:", READY_TIMEOUT_S)


@dataclass(slots=True)
class ResultCollector:
    """Collects the answers printed by the player and the transforms printed by the listener, by stamp."""

    truth: DemoTruth
    answers: dict[int, Answer] = field(default_factory=dict)
    transforms: list[ReceivedTransform] = field(default_factory=list)
    _shown: set[int] = field(default_factory=set)

    def collect(self, processes: RosProcesses, show: Callable[[FrameRecord], None]) -> None:
        """Collect until the player has ended and all accepted frames have a transform, or `LATE_TRANSFORM_S` has passed.

        Raises:
            RosProcessError: A process died, or there was no output for `SILENCE_TIMEOUT_S`.
        """
        playing, last = True, time.monotonic()
        while playing or (self._missing_transforms() and time.monotonic() - last < LATE_TRANSFORM_S):
            try:
                name, line = processes.events.get(timeout=0.2)
            except queue.Empty:
                processes.check()
                if time.monotonic() - last > SILENCE_TIMEOUT_S:
                    raise RosProcessError(f"there was no output for {SILENCE_TIMEOUT_S:g} s; see node.log") from None
                continue
            last = time.monotonic()
            if line is None:
                playing = playing and name != PLAYER
            else:
                self._add(name, line)
                self._show_complete(show)
        processes.check()

    def records(self) -> list[FrameRecord]:
        """Return the records of all frames in order."""
        return [self.truth.record(stamp, self.answers.get(stamp), self._received(stamp)) for stamp in self.truth.poses]

    def _add(self, name: str, line: dict[str, Any]) -> None:
        if name == LISTENER:
            self.transforms.append(ReceivedTransform.from_json(line))
        elif name == PLAYER:
            answer = Answer.from_json(line)
            self.answers[answer.stamp_ns] = answer

    def _received(self, stamp_ns: int) -> dict[str, ReceivedTransform]:
        """Return the transforms of one frame that have been received, by child frame."""
        return {transform.child: transform for transform in self.transforms if transform.stamp_ns == stamp_ns}

    def _missing_transforms(self) -> set[int]:
        """Return the stamps of accepted frames of which a transform has not been received."""
        expected = {(stamp, PATIENT_FRAME) for stamp, answer in self.answers.items() if answer.accepted}
        for stamp, answer in self.answers.items():
            frames = [body["frame_id"] for body in answer.bodies.values() if body["accepted"] == "true"]
            expected |= {(stamp, frame) for frame in frames}
        received = {(transform.stamp_ns, transform.child) for transform in self.transforms}
        return {stamp for stamp, _ in expected - received}

    def _show_complete(self, show: Callable[[FrameRecord], None]) -> None:
        missing = self._missing_transforms()
        for stamp in self.answers:
            if stamp not in self._shown and stamp not in missing and stamp in self.truth.poses:
                self._shown.add(stamp)
                show(self.truth.record(stamp, self.answers[stamp], self._received(stamp)))
