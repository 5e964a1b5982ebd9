"""Sequences through the tracker alone: frames a second, latencies, renders, errors, and what was lost and found again.

    python benchmarks/tracking.py [--sequences demo long jump dropout wrong-patient swing] [--frames 600] [--size 256]
        [--recording BAG --ct CT --initial POSE --landmarks POINTS] [--tracker new|previous|both] [--live] [--json]

`previous` is the tracker that ran two stages of the method from the last pose, without a prediction; both run in turn on each
frame in the same process. Latencies are those of `Tracker.update` after the first frame, which searches. `ratio` is the
processor time of a frame relative to that of one image with Jacobian at the tracked scale, measured between the frames of the
same run, so that it depends neither on the machine nor on what else runs there. Errors are those of accepted frames that show
the patient. A frame counts as lost from its first rejection until the next accepted frame.

`--live` gives the new tracker alone the frames at the times of their stamps, with searches beside it, as in the node. A late
second result counts for its frame. What is found then depends on the machine; without it, equal frames give equal results.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine, versions
from render_bench.report import markdown
from tracking_previous import PreviousTracker
from tracking_sequences import GOOD, SEQUENCES, TrackedSequence, recorded, simulated

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult, Tracker
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project_with_jacobian, resolve_device
from fluoro_reg.xray.image import Intensity

GROSS_MM = 5.0
TRACKED_PX = 128


@dataclass(slots=True)
class Reference:
    """One image with its Jacobian at the tracked scale, timed again and again while the trackers run."""

    volume: CTVolume
    camera: CameraIntrinsics
    pose: RigidTransform
    device: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    renderer: AbstractRenderer = field(init=False)

    def __post_init__(self) -> None:
        self.renderer = make_renderer(self.volume, self.device)
        self.camera = self.camera.binned(max(1, round(max(self.camera.width, self.camera.height) / TRACKED_PX)))
        project_with_jacobian(self.renderer, self.pose, self.camera, self.volume.centre_patient)

    def measure(self) -> None:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        project_with_jacobian(self.renderer, self.pose, self.camera, self.volume.centre_patient)[0].cpu()
        self.seconds.append(time.perf_counter() - begin)
        self.cpu_seconds.append(time.process_time() - begin_cpu)


@dataclass(slots=True)
class Run:
    """What one tracker answered to the frames of a sequence."""

    sequence: TrackedSequence
    results: list[RegistrationResult] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def add(self, register: Callable[[], RegistrationResult]) -> None:
        """Register a frame and time it. The processor time is that of the whole process, a search beside it included."""
        begin, begin_cpu = time.perf_counter(), time.process_time()
        self.results.append(register())
        self.seconds.append(time.perf_counter() - begin)
        self.cpu_seconds.append(time.process_time() - begin_cpu)

    def summary(self, reference_cpu_s: float) -> dict[str, Any]:
        frames, tracked = self.sequence.frames, self.seconds[1:]
        bad = [n for n, frame in enumerate(frames) if frame.kind != GOOD]
        accepted = [n for n, result in enumerate(self.results) if result.accepted]
        errors = [self._errors(n) for n in accepted if frames[n].kind == GOOD and frames[n].truth is not None]
        latency = {f"p{q}": float(np.percentile(tracked, q)) for q in (50, 95, 99, 100)}
        return {
            "frames": len(frames),
            "frames_per_second": len(tracked) / sum(tracked),
            "latency_s": latency,
            "ratio": {f"p{q}": float(np.percentile(self.cpu_seconds[1:], q)) / reference_cpu_s for q in (50, 95, 99, 100)},
            "renders": statistics.median(result.n_renders for result in self.results[1:]),
            "seconds": self._stages(),
            "good_accepted": sum(frames[n].kind == GOOD for n in accepted),
            "good": len(frames) - len(bad),
            "bad": len(bad),
            "bad_accepted": sum(n in accepted for n in bad),
            "wrong_accepted": sum(self._errors(n).mtre_mm > GROSS_MM for n in accepted if frames[n].truth is not None),
            "mtre_mm": _median_and_maximum([error.mtre_mm for error in errors]),
            "in_plane_mm": _median_and_maximum([error.in_plane_mm for error in errors]),
            "depth_mm": _median_and_maximum([error.depth_mm for error in errors]),
            "states": self._states(),
            "lost": self._lost(),
        }

    def _errors(self, n: int) -> Any:
        pose, truth = self.results[n].camera_from_patient, self.sequence.frames[n].truth
        assert pose is not None and truth is not None
        return target_registration_errors(pose, truth, self.sequence.points_patient)

    def _stages(self) -> dict[str, float]:
        names = dict.fromkeys(name for result in self.results[1:] for name in result.seconds)
        return {name: statistics.median(result.seconds.get(name, 0.0) for result in self.results[1:]) for name in names}

    def _states(self) -> list[tuple[str, int]]:
        """The states, each with its number of frames, in order; none of a tracker that has none."""
        runs: list[tuple[str, int]] = []
        for state in (result.state for result in self.results if result.state):
            count = runs.pop()[1] if runs and runs[-1][0] == state else 0
            runs.append((state, count + 1))
        return runs

    def _lost(self) -> list[dict[str, Any]]:
        """Runs of rejected frames: where they begin, how long they are, and how many of their frames show the patient."""
        runs, start = [], None
        for n, result in enumerate([*self.results, None]):
            rejected = result is not None and not result.accepted
            start = n if rejected and start is None else start
            if not rejected and start is not None:
                kinds = [frame.kind for frame in self.sequence.frames[start:n]]
                runs.append({"frame": start, "frames": n - start, "good": kinds.count(GOOD), "kinds": sorted(set(kinds))})
                start = None
        return runs


def _median_and_maximum(values: list[float]) -> list[float] | None:
    return [statistics.median(values), max(values)] if values else None


def track(sequence: TrackedSequence, volume: CTVolume, names: list[str], options: RegistrationOptions) -> dict[str, Any]:
    """Run the trackers in turn on each frame; return the summary of each."""
    trackers: dict[str, Any] = {
        name: {"previous": PreviousTracker, "new": Tracker}[name](Registrar(volume, options), sequence.initial_pose)
        for name in names
    }
    reference = Reference(volume, sequence.frames[0].xray.intrinsics, sequence.initial_pose, options.device)
    runs = {name: Run(sequence) for name in names}
    for frame in sequence.frames:
        reference.measure()
        for name, tracker in trackers.items():
            runs[name].add(lambda tracker=tracker, frame=frame: tracker.update(frame.xray, frame.stamp_ns))
    reference_s, reference_cpu_s = (statistics.median(values) for values in (reference.seconds, reference.cpu_seconds))
    summaries = {name: run.summary(reference_cpu_s) for name, run in runs.items()}
    return {"image_with_jacobian_s": reference_s, "image_with_jacobian_cpu_s": reference_cpu_s, **summaries}


def track_live(sequence: TrackedSequence, volume: CTVolume, options: RegistrationOptions) -> dict[str, Any]:
    """Run the tracker at the rate of the sequence, with searches in the background; return its summary."""
    tracker = Tracker(Registrar(volume, options), sequence.initial_pose, background=True)
    reference = Reference(volume, sequence.frames[0].xray.intrinsics, sequence.initial_pose, options.device)
    for _ in range(20):
        reference.measure()
    run, begin = Run(sequence), time.perf_counter()
    for frame in sequence.frames:
        due = begin + (frame.stamp_ns - sequence.frames[0].stamp_ns) * 1e-9
        while (left := due - time.perf_counter()) > 0:
            time.sleep(min(left, 0.005))
            if run.results and run.results[-1].searching and (late := tracker.late_result()) is not None:
                run.results[-1] = late
        run.add(lambda frame=frame: tracker.update(frame.xray, frame.stamp_ns))
    tracker.close()
    reference_s, reference_cpu_s = (statistics.median(values) for values in (reference.seconds, reference.cpu_seconds))
    return {
        "image_with_jacobian_s": reference_s,
        "image_with_jacobian_cpu_s": reference_cpu_s,
        "new, live": run.summary(reference_cpu_s),
    }


def table(records: dict[str, dict[str, Any]]) -> str:
    rows, lost = [], []
    for sequence, record in records.items():
        for name in (name for name in ("previous", "new", "new, live") if name in record):
            r, numbers = record[name], []
            numbers += [f"{1000 * r['latency_s'][q]:.0f}" for q in ("p50", "p95", "p99", "p100")]
            numbers += [f"{r['ratio'][q]:.1f}" for q in ("p50", "p99")] + [f"{r['renders']:g}", f"{r['frames_per_second']:.1f}"]
            numbers += [f"{r['good_accepted']}/{r['good']}", f"{r['bad_accepted']}/{r['bad']}", str(r["wrong_accepted"])]
            numbers += ["-" if r[k] is None else "{:.2f}, {:.2f}".format(*r[k]) for k in ("mtre_mm", "in_plane_mm", "depth_mm")]
            rows.append([sequence, name, *numbers])
            lost += [f"- {sequence}, {name}: {_sentence(run)}" for run in r["lost"] if run["good"]]
            lost += [f"- {sequence}, {name}: " + ", ".join(f"{state} {n}" for state, n in r["states"])] if r["states"] else []
    columns = ["sequence", "tracker", "p50, ms", "p95, ms", "p99, ms", "longest, ms", "ratio p50", "ratio p99", "renders",
               "frames/s", "accepted", "bad accepted", "> 5 mm accepted", "mTRE, mm", "in plane, mm", "depth, mm"]  # fmt: skip
    return "\n".join([markdown(columns, rows, texts=2), "", *lost])


def _sentence(run: dict[str, Any]) -> str:
    return f"lost at frame {run['frame']} for {run['frames']} frames ({', '.join(run['kinds'])}), {run['good']} of them good"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", nargs="+", choices=tuple(SEQUENCES), default=list(SEQUENCES), metavar="NAME")
    parser.add_argument("--frames", type=int, default=600, help="length of the long sequence")
    parser.add_argument("--size", type=int, default=256, help="width and height of the simulated X-rays")
    parser.add_argument("--tracker", choices=("new", "previous", "both"), default="both")
    parser.add_argument("--live", action="store_true", help="the new tracker alone, at the rate of the frames")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="auto")
    parser.add_argument("--method", default=RegistrationOptions().method)
    parser.add_argument("--recording", type=Path, help="a bag or cine instead of simulated sequences")
    parser.add_argument("--ct", type=Path, help="the CT of the recording")
    parser.add_argument("--initial", type=Path, help="pose.json to begin the recording from")
    parser.add_argument("--landmarks", type=Path, help="landmarks.json; default: the corners of a cube of 100 mm")
    parser.add_argument("--intensity", choices=[i.value for i in Intensity], default=Intensity.AUTO.value)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    try:
        sequences = _recorded(arguments) if arguments.recording else simulated(
            arguments.sequences, arguments.frames, arguments.size
        )  # fmt: skip
        names = ["previous", "new"] if arguments.tracker == "both" else [arguments.tracker]
        options = RegistrationOptions(method=arguments.method, device=resolve_device(arguments.device))
        records = {
            sequence.name: track_live(sequence, volume, options) if arguments.live else track(sequence, volume, names, options)
            for volume, sequence in sequences
        }
    except InputError as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        print(json.dumps({"machine": machine(), "versions": versions("fluoro_reg", "torch", "numba"), "sequences": records}))
        return
    print(table(records))


def _recorded(arguments: argparse.Namespace) -> list[tuple[CTVolume, TrackedSequence]]:
    if not (arguments.ct and arguments.initial):
        raise InputError("a recording needs --ct and --initial")
    volume = read_ct(arguments.ct)
    cube = torch.cartesian_prod(*[torch.tensor([-50.0, 50.0], dtype=torch.float64)] * 3) + volume.centre_patient
    points = read_landmarks(arguments.landmarks) if arguments.landmarks else cube
    initial = read_pose(arguments.initial)
    return [(volume, recorded(arguments.recording, initial, points, Intensity(arguments.intensity)))]


if __name__ == "__main__":
    main()
