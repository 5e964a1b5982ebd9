"""How many renders and how many seconds from a wrong pose to 1 mm and to 0.1 mm? Levenberg-Marquardt and Adam on one renderer.

    python benchmarks/register.py [--size 256] [--starts 20] [--start-mm 17] [--quick] [--device cpu|cuda] [--plot FILE]
        [--json]

The X-ray is the exact line integrals of the CT (the oracle of `accuracy.py`, no renderer of ours) with a gain and an offset.
The starts lie at 17 mm mean target registration error, in every direction, depth included. Levenberg-Marquardt on NCC goes from
coarse to fine (quarter, half, full) or works at full size alone; Adam follows the gradient of the same NCC through the same
renderer at full size, 150 steps. A start has arrived when its error falls within the limit and stays there; the seconds are
those of everything that happens to an image but the search for a start. On CUDA the rounds of each scale also run as one
captured graph, which tells the time when it ends and not in between.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from matplotlib.figure import Figure
from render_bench.options import device_of
from render_bench.oracle import exact_integrals
from render_bench.report import duration, markdown, save
from render_bench.scene import Scene, body, make_scene
from torch import Tensor

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.optimisers import Adam, ByAutograd, LevenbergMarquardt, NormalEquations, Schedule
from fluoro_reg.registration.stages.ncc_refiner import GramEvaluation, GramObjective, NCCRefiner
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.rendering.rays import ViewGeometry, march_axes
from fluoro_reg.rendering.threads import THREADS
from fluoro_reg.similarity import NCC

LIMITS_MM = (1.0, 0.1)
SCALES, ROUNDS = (4, 2, 1), {4: 8, 2: 4, 1: 3}
ADAM_STEPS = 150
GAIN, OFFSET = 1.7, -0.4


@dataclass(frozen=True, slots=True)
class Level:
    """One scale of the problem: renderer, camera and X-ray."""

    factor: int
    scene: Scene
    renderer: AbstractRenderer
    fixed: Tensor


@dataclass(slots=True)
class Track:
    """What became of one start: seconds, renders and error of every improvement."""

    truth: RigidTransform
    points: Tensor
    begin: float = field(default_factory=time.perf_counter)
    renders: int = 0
    passed: list[tuple[float, int, float]] = field(default_factory=list)

    def note(self, pose: RigidTransform) -> None:
        """The pose, not counting the time that looking at it takes."""
        now = time.perf_counter()
        error = target_registration_errors(pose.to("cpu"), self.truth, self.points).mtre_mm
        self.passed.append((now - self.begin, self.renders, error))
        self.begin += time.perf_counter() - now

    def arrival(self, limit_mm: float) -> tuple[float, int] | None:
        """Seconds and renders until the error was within the limit and stayed there."""
        arrived = None
        for seconds, renders, error in self.passed:
            arrived = (arrived or (seconds, renders)) if error < limit_mm else None
        return arrived


class WatchedObjective(GramObjective):
    """A global-NCC objective that writes down what it is asked."""

    track: Track

    def evaluate(self, poses: RigidTransform) -> GramEvaluation:
        self.track.renders += 1
        seen = super().evaluate(poses)
        return GramEvaluation(poses, seen.gram.cpu())

    def linearise(self, at: GramEvaluation) -> NormalEquations:
        self.track.note(at.poses[0])  # asked only of poses that are better than the last
        return super().linearise(at)


@dataclass(slots=True)
class AutogradNCC:
    """1 - NCC as a `ValueProblem` that autograd follows through the renderer."""

    level: Level
    track: Track

    def values(self, starts: RigidTransform, twists: Tensor) -> Tensor:
        self.track.renders += 1
        poses = retract(starts, twists, self.level.scene.pivot)
        self.track.note(poses[0].to(torch.float64))
        moving = project(self.level.renderer, poses, self.level.scene.camera)
        return 1 - NCC().score(moving, self.level.fixed[None], torch.ones_like(moving)).cpu()


def levels(scene: Scene, fixed: Tensor, device: str) -> list[Level]:
    made = []
    for factor in SCALES:
        volume, camera = scene.volume.downsampled((factor,) * 3), scene.camera.binned(factor)
        image = torch.nn.functional.avg_pool2d(fixed[None], factor)[0].to(device)
        renderer = make_renderer(volume, device)
        renderer.warm_up()
        made.append(Level(factor, replace(scene, volume=volume, camera=camera), renderer, image))
    return made


def levenberg_marquardt(chosen: list[Level], start: RigidTransform, pivot: Tensor, track: Track) -> None:
    pose = RigidTransform.stack([start])
    for level in chosen:
        geometry = ViewGeometry.from_volume(level.renderer.volume, level.scene.camera)
        axes = torch.tensor(march_axes(geometry.rays(pose), level.renderer.volume.shape_ijk))
        weight = torch.ones_like(level.fixed)[None]
        objective = WatchedObjective(level.renderer, geometry, pivot, level.fixed[None], weight, axes)
        objective.track = track
        optimiser = LevenbergMarquardt(iterations=ROUNDS[level.factor] if len(chosen) > 1 else 20)
        pose = optimiser.minimise(objective, objective.evaluate(pose))[0].poses


def adam(level: Level, start: RigidTransform, track: Track) -> None:
    schedule = Schedule(steps=ADAM_STEPS, decay=0.6, progress=0.0, patience=ADAM_STEPS)
    Adam(rates=(1.0, 0.01), schedule=schedule).minimise(ByAutograd(AutogradNCC(level, track)), RigidTransform.stack([start]))


class Captured:
    """Levenberg-Marquardt on a GPU: the rounds of a scale are one graph, captured before the clock runs."""

    def __init__(self, chosen: list[Level], pivot: Tensor, start: RigidTransform) -> None:
        self.refiners = [
            (NCCRefiner(level.renderer, level.scene.camera, pivot, optimiser=LevenbergMarquardt(ROUNDS[level.factor])), level)
            for level in chosen
        ]
        self(start, None)

    def __call__(self, start: RigidTransform, track: Track | None) -> None:
        pose = RigidTransform.stack([start])
        for refiner, level in self.refiners:
            pose = refiner.refine(pose, level.fixed, torch.ones_like(level.fixed))[0].to("cpu")
            if track is not None:
                track.renders += 1 + ROUNDS[level.factor]
                track.note(pose[0])


def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, list[Track]]]:
    device = device_of(arguments)
    scene = make_scene(body(arguments.size), arguments.size)
    truth, points = scene.camera_from_patient, targets(scene)
    exact = exact_integrals(scene.volume, truth, scene.camera, scene.pixels(scene.camera.width**2))
    fixed = (GAIN * exact + OFFSET).reshape(scene.camera.height, scene.camera.width).float()
    chosen = levels(scene, fixed, device)
    torch.set_num_threads(1)  # as the registrar does: the renderer's threads need the cores
    generator = torch.Generator().manual_seed(0)
    starts = [perturb_to_mtre(truth, points, arguments.start_mm, scene.pivot, generator) for _ in range(arguments.starts)]
    methods: dict[str, Callable[[RigidTransform, Track], None]] = {
        "LM, NCC, coarse to fine": lambda start, track: levenberg_marquardt(chosen, start, scene.pivot, track),
        "LM, NCC, full size": lambda start, track: levenberg_marquardt(chosen[-1:], start, scene.pivot, track),
        "Adam, NCC, full size": lambda start, track: adam(chosen[-1], start, track),
    }
    if device == "cuda":
        methods = {"LM, NCC, coarse to fine, CUDA graphs": Captured(chosen, scene.pivot, starts[0]), **methods}
    tracks: dict[str, list[Track]] = {name: [] for name in methods}
    for start in starts:
        for name, method in methods.items():
            tracks[name].append(Track(truth, points))
            method(start, tracks[name][-1])
    record = {
        "machine": machine(device),
        "device": device,
        "threads": THREADS,
        "versions": versions("fluoro_reg", "torch", "numba"),
        "size": arguments.size,
        "start_mm": arguments.start_mm,
        "methods": {name: summary(found) for name, found in tracks.items()},
    }
    return record, tracks


def targets(scene: Scene) -> Tensor:
    """A grid of 27 points about the CT's centre, 120 mm wide."""
    axis = torch.tensor([-60.0, 0.0, 60.0], dtype=torch.float64)
    return scene.pivot + torch.cartesian_prod(axis, axis, axis)


def summary(tracks: list[Track]) -> dict[str, Any]:
    """Per limit: the share of starts that arrive, and medians over them."""
    limits = {}
    for limit in LIMITS_MM:
        arrivals = [arrival for track in tracks if (arrival := track.arrival(limit))]
        seconds, renders = zip(*arrivals, strict=True) if arrivals else ((), ())
        limits[f"{limit} mm"] = {
            "arrived": len(arrivals) / len(tracks),
            "median_seconds": statistics.median(seconds) if arrivals else None,
            "median_renders": statistics.median(renders) if arrivals else None,
        }
    ends = [track.passed[-1] for track in tracks]
    return limits | {
        "starts": len(tracks),
        "median_seconds_in_all": statistics.median(end[0] for end in ends),
        "median_mtre_mm": statistics.median(end[2] for end in ends),
    }


def table(record: dict[str, Any]) -> str:
    rows = []
    for name, found in record["methods"].items():
        cells = [name]
        for limit in LIMITS_MM:
            arrival = found[f"{limit} mm"]
            arrived = arrival["median_seconds"] is not None
            cells += [f"{arrival['arrived']:.0%}"]
            cells += [duration(arrival["median_seconds"]), f"{arrival['median_renders']:g}"] if arrived else ["-", "-"]
        rows.append([*cells, f"{found['median_mtre_mm']:.3f}", duration(found["median_seconds_in_all"])])
    columns = [f"{what} {limit:g} mm" for limit in LIMITS_MM for what in ("reach", "time to", "renders to")]
    return markdown(["method", *columns, "final median mTRE, mm", "time in all"], rows)


def plot(tracks: dict[str, list[Track]], title: str, file: Path) -> None:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for n, (name, found) in enumerate(tracks.items()):
        for m, track in enumerate(found):
            seconds, _, errors = zip(*track.passed, strict=True)
            axes.plot(seconds, errors, color=f"C{n}", alpha=0.5, linewidth=0.9, label=name if m == 0 else None)
    for limit in LIMITS_MM:
        axes.axhline(limit, color="0.7", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel="mean target registration error, mm", title=title)
    axes.legend(frameon=False)
    save(figure, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="voxels and pixels a side (default 256; quick: 64)")
    parser.add_argument("--starts", type=int, help="default 20; quick: 4")
    parser.add_argument("--start-mm", type=float, default=17.0, help="mean target registration error of the starts")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plot", type=Path, help="write a PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    arguments.size = arguments.size or (64 if arguments.quick else 256)
    arguments.starts = arguments.starts or (4 if arguments.quick else 20)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            record, tracks = run(arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    where = f"{record['machine'].get('gpu', record['machine']['cpu'])}, {record['threads']} threads"
    title = f"{arguments.size} voxels and pixels a side, from {arguments.start_mm:g} mm, {record['device']}: {where}"
    if arguments.plot:
        plot(tracks, title, arguments.plot)
    print(json.dumps(record) if arguments.json else f"{title}\n\n{table(record)}")


if __name__ == "__main__":
    main()
