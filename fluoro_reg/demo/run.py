"""One run of the demo: folder, scene, processes, answers, report."""

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fluoro_reg.demo.assessment import Answer, DemoTruth, FrameRecord, HeardTransform, shortcomings, summary
from fluoro_reg.demo.files import DemoOutcome, prepare, write_answers, write_node_parameters, write_report
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
    """The whole demo; an outcome without shortcomings did what it should.

    Raises:
        InputError: the folder holds something else, or a setting is unusable.
        RosProcessError: one of the ROS processes died or fell silent.
    """
    check(options)
    prepare(folder, options)
    with screen.step("a pelvis CT, written as a DICOM series"):
        ct = make_phantom(folder, options)
    with screen.step(f"a rosbag2 of a moving C-arm, {options.recording.frames} X-rays", options.recording.frames) as progress:
        scene = make_recording(ct, options, progress)
    options = with_weights(folder, ct, options)
    write_node_parameters(folder, scene, options)
    watch = Watch(DemoTruth.read(scene.recording))
    with ros_processes(folder) as processes:
        start = "no start given" if options.registration.model else "a start given"
        with screen.step(f"registration_node, {start}, and tf_listener, each a process"):
            start_node_and_listener(processes)
        processes.start(PLAYER, "player", "recording/bag", "--wait", "120", "--await", "/tf", "--answers", RESULT_TOPIC)
        with screen.frames(options.recording.frames) as show:
            watch.follow(processes, show)
    records = watch.records()
    outcome = DemoOutcome(records, summary(records, len(watch.heard)), shortcomings(records, watch.heard))
    write_answers(folder, outcome.records, outcome.summary)
    screen.pause()
    with screen.step("the report"):
        write_report(folder, scene, watch.truth, outcome, options, TOPICS)
    return outcome


def check(options: DemoOptions) -> None:
    """What would otherwise come to light only after the work.

    Raises:
        InputError: no such method or device, or a recording that begins without the patient.
    """
    load_method(options.registration.method)
    resolve_device(options.registration.device)
    if 0 in options.recording.blank:
        raise InputError("recording.blank names frame 0, where the demo begins; leave it out")


def start_node_and_listener(processes: RosProcesses) -> None:
    """Returns when the node listens to images and the listener to the node: from then on nothing is missed."""
    remappings = [argument for name, topic in TOPICS.items() for argument in ("-r", f"{name}:={topic}")]
    node = processes.start(NODE, "node", "--ros-args", "--params-file", "node.yaml", *remappings)
    listener = processes.start(LISTENER, "tf_listener", "--child", "patient")
    node.wait_until_it_says("active:", READY_TIMEOUT_S)
    listener.wait_until_it_says("connected:", READY_TIMEOUT_S)


@dataclass(slots=True)
class Watch:
    """Puts together what the player and the listener print, by stamp."""

    truth: DemoTruth
    answers: dict[int, Answer] = field(default_factory=dict)
    heard: list[HeardTransform] = field(default_factory=list)
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
            self.heard.append(HeardTransform.from_json(line))
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
