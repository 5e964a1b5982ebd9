"""Renders and seconds from a wrong pose to 1 mm and 0.1 mm, for Levenberg-Marquardt and Adam on the same renderer.

    python benchmarks/register.py [--size 256] [--starts 20] [--start-mm 17] [--quick] [--device cpu|cuda] [--plot FILE]
        [--json]

The X-ray is the exact line integrals of the CT (the oracle of `accuracy.py`, which is not a renderer of ours), with a gain and
an offset. Initial poses are at 17 mm mean target registration error in random directions, including depth. Levenberg-Marquardt
on NCC runs from coarse to fine (quarter, half, full size) or at full size alone. Adam follows the gradient of the same NCC
through the same renderer at full size, for 150 steps. An error limit is reached when the error falls below it and stays there.
Seconds include everything that is done for an image except the search for an initial pose. On CUDA, the iterations of each
scale also run as one captured graph, whose times are known only at its end.
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
from fluoro_reg.optimisers import Adam, AutogradProblem, LevenbergMarquardt, NormalEquations, Schedule
from fluoro_reg.registration.stages.ncc_refiner import GramEvaluation, GramObjective, NCCRefiner
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.rendering.rays import ViewGeometry, march_axes
from fluoro_reg.rendering.threads import THREADS
from fluoro_reg.similarity import NCC

LIMITS_MM = (1.0, 0.1)
SCALES, ITERATIONS = (4, 2, 1), {4: 8, 2: 4, 1: 3}
ADAM_STEPS = 150
GAIN, OFFSET = 1.7, -0.4


@dataclass(frozen=True, slots=True)
class Scale:
    """One scale of the problem, with its renderer, camera and X-ray."""

    factor: int
    scene: Scene
    renderer: AbstractRenderer
    fixed: Tensor


@dataclass(slots=True)
class Trajectory:
    """The history of one registration: seconds, renders and error of every improvement."""

    truth: RigidTransform
    points: Tensor
    begin: float = field(default_factory=time.perf_counter)
    renders: int = 0
    history: list[tuple[float, int, float]] = field(default_factory=list)

    def record_pose(self, pose: RigidTransform) -> None:
        """Record a pose, without counting the time that this takes."""
        now = time.perf_counter()
        error = target_registration_errors(pose.to("cpu"), self.truth, self.points).mtre_mm
        self.history.append((now - self.begin, self.renders, error))
        self.begin += time.perf_counter() - now

    def time_to_reach(self, limit_mm: float) -> tuple[float, int] | None:
        """Return seconds and renders until the error was below the limit and stayed there."""
        reached_at = None
        for seconds, renders, error in self.history:
            reached_at = (reached_at or (seconds, renders)) if error < limit_mm else None
        return reached_at


class RecordingObjective(GramObjective):
    """A global-NCC objective that records its evaluations."""

    trajectory: Trajectory

    def evaluate(self, poses: RigidTransform) -> GramEvaluation:
        self.trajectory.renders += 1
        evaluation = super().evaluate(poses)
        return GramEvaluation(poses, evaluation.gram.cpu())

    def linearise(self, at: GramEvaluation) -> NormalEquations:
        self.trajectory.record_pose(at.poses[0])  # called only for poses that are better than the last
        return super().linearise(at)


@dataclass(slots=True)
class AutogradNCC:
    """1 - NCC as a `ValueProblem` that autograd can follow through the renderer."""

    scale: Scale
    trajectory: Trajectory

    def values(self, starts: RigidTransform, twists: Tensor) -> Tensor:
        self.trajectory.renders += 1
        poses = retract(starts, twists, self.scale.scene.pivot)
        self.trajectory.record_pose(poses[0].to(torch.float64))
        moving = project(self.scale.renderer, poses, self.scale.scene.camera)
        return 1 - NCC().score(moving, self.scale.fixed[None], torch.ones_like(moving)).cpu()


def make_scales(scene: Scene, fixed: Tensor, device: str) -> list[Scale]:
    scales = []
    for factor in SCALES:
        volume, camera = scene.volume.downsampled((factor,) * 3), scene.camera.binned(factor)
        image = torch.nn.functional.avg_pool2d(fixed[None], factor)[0].to(device)
        renderer = make_renderer(volume, device)
        renderer.warm_up()
        scales.append(Scale(factor, replace(scene, volume=volume, camera=camera), renderer, image))
    return scales


def levenberg_marquardt(scales: list[Scale], start: RigidTransform, pivot: Tensor, trajectory: Trajectory) -> None:
    pose = RigidTransform.stack([start])
    for scale in scales:
        geometry = ViewGeometry.from_volume(scale.renderer.volume, scale.scene.camera)
        axes = torch.tensor(march_axes(geometry.rays(pose), scale.renderer.volume.shape_ijk))
        weight = torch.ones_like(scale.fixed)[None]
        objective = RecordingObjective(scale.renderer, geometry, pivot, scale.fixed[None], weight, axes)
        objective.trajectory = trajectory
        optimiser = LevenbergMarquardt(iterations=ITERATIONS[scale.factor] if len(scales) > 1 else 20)
        pose = optimiser.minimise(objective, objective.evaluate(pose))[0].poses


def adam(scale: Scale, start: RigidTransform, trajectory: Trajectory) -> None:
    schedule = Schedule(steps=ADAM_STEPS, decay=0.6, progress=0.0, patience=ADAM_STEPS)
    Adam(rates=(1.0, 0.01), schedule=schedule).minimise(
        AutogradProblem(AutogradNCC(scale, trajectory)), RigidTransform.stack([start])
    )


class GraphRefinement:
    """Levenberg-Marquardt on a GPU, with the iterations of each scale in one graph that is captured before the clock starts."""

    def __init__(self, scales: list[Scale], pivot: Tensor, start: RigidTransform) -> None:
        self.refiners = [
            (
                NCCRefiner(scale.renderer, scale.scene.camera, pivot, optimiser=LevenbergMarquardt(ITERATIONS[scale.factor])),
                scale,
            )
            for scale in scales
        ]
        self(start, None)

    def __call__(self, start: RigidTransform, trajectory: Trajectory | None) -> None:
        pose = RigidTransform.stack([start])
        for refiner, scale in self.refiners:
            pose = refiner.refine(pose, scale.fixed, torch.ones_like(scale.fixed))[0].to("cpu")
            if trajectory is not None:
                trajectory.renders += 1 + ITERATIONS[scale.factor]
                trajectory.record_pose(pose[0])


def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, list[Trajectory]]]:
    device = device_of(arguments)
    scene = make_scene(body(arguments.size), arguments.size)
    truth, points = scene.camera_from_patient, target_points(scene)
    exact = exact_integrals(scene.volume, truth, scene.camera, scene.pixels(scene.camera.width**2))
    fixed = (GAIN * exact + OFFSET).reshape(scene.camera.height, scene.camera.width).float()
    scales = make_scales(scene, fixed, device)
    torch.set_num_threads(1)  # as the registrar does, to leave the cores to the renderer's threads
    generator = torch.Generator().manual_seed(0)
    starts = [perturb_to_mtre(truth, points, arguments.start_mm, scene.pivot, generator) for _ in range(arguments.starts)]
    methods: dict[str, Callable[[RigidTransform, Trajectory], None]] = {
        "LM, NCC, coarse to fine": lambda start, trajectory: levenberg_marquardt(scales, start, scene.pivot, trajectory),
        "LM, NCC, full size": lambda start, trajectory: levenberg_marquardt(scales[-1:], start, scene.pivot, trajectory),
        "Adam, NCC, full size": lambda start, trajectory: adam(scales[-1], start, trajectory),
    }
    if device == "cuda":
        methods = {"LM, NCC, coarse to fine, CUDA graphs": GraphRefinement(scales, scene.pivot, starts[0]), **methods}
    trajectories: dict[str, list[Trajectory]] = {name: [] for name in methods}
    for start in starts:
        for name, method in methods.items():
            trajectories[name].append(Trajectory(truth, points))
            method(start, trajectories[name][-1])
    record = {
        "machine": machine(device),
        "device": device,
        "threads": THREADS,
        "versions": versions("fluoro_reg", "torch", "numba"),
        "size": arguments.size,
        "start_mm": arguments.start_mm,
        "methods": {name: summary(runs) for name, runs in trajectories.items()},
    }
    return record, trajectories


def target_points(scene: Scene) -> Tensor:
    """Return a grid of 27 points about the CT's centre, 120 mm wide."""
    axis = torch.tensor([-60.0, 0.0, 60.0], dtype=torch.float64)
    return scene.pivot + torch.cartesian_prod(axis, axis, axis)


def summary(trajectories: list[Trajectory]) -> dict[str, Any]:
    """Return, for each limit, the fraction of runs that reach it, and medians over these."""
    limits = {}
    for limit in LIMITS_MM:
        reached = [effort for trajectory in trajectories if (effort := trajectory.time_to_reach(limit))]
        seconds, renders = zip(*reached, strict=True) if reached else ((), ())
        limits[f"{limit} mm"] = {
            "reached": len(reached) / len(trajectories),
            "median_seconds": statistics.median(seconds) if reached else None,
            "median_renders": statistics.median(renders) if reached else None,
        }
    ends = [trajectory.history[-1] for trajectory in trajectories]
    return limits | {
        "starts": len(trajectories),
        "median_seconds_in_all": statistics.median(end[0] for end in ends),
        "median_mtre_mm": statistics.median(end[2] for end in ends),
    }


def table(record: dict[str, Any]) -> str:
    rows = []
    for name, runs in record["methods"].items():
        cells = [name]
        for limit in LIMITS_MM:
            result = runs[f"{limit} mm"]
            reached_at = result["median_seconds"] is not None
            cells += [f"{result['reached']:.0%}"]
            cells += [duration(result["median_seconds"]), f"{result['median_renders']:g}"] if reached_at else ["-", "-"]
        rows.append([*cells, f"{runs['median_mtre_mm']:.3f}", duration(runs["median_seconds_in_all"])])
    columns = [f"{what} {limit:g} mm" for limit in LIMITS_MM for what in ("reach", "time to", "renders to")]
    return markdown(["method", *columns, "final median mTRE, mm", "total time"], rows)


def plot(trajectories: dict[str, list[Trajectory]], title: str, file: Path) -> None:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for n, (name, runs) in enumerate(trajectories.items()):
        for m, trajectory in enumerate(runs):
            seconds, _, errors = zip(*trajectory.history, strict=True)
            axes.plot(seconds, errors, color=f"C{n}", alpha=0.5, linewidth=0.9, label=name if m == 0 else None)
    for limit in LIMITS_MM:
        axes.axhline(limit, color="0.7", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel="mean target registration error, mm", title=title)
    axes.legend(frameon=False)
    save(figure, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="voxels and pixels per side (default 256; quick: 64)")
    parser.add_argument("--starts", type=int, help="number of initial poses (default 20; quick: 4)")
    parser.add_argument("--start-mm", type=float, default=17.0, help="mean target registration error of the initial poses, mm")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if CUDA and Triton are present, else cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plot", type=Path, help="write a PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    arguments.size = arguments.size or (64 if arguments.quick else 256)
    arguments.starts = arguments.starts or (4 if arguments.quick else 20)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            record, trajectories = run(arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    where = f"{record['machine'].get('gpu', record['machine']['cpu'])}, {record['threads']} threads"
    title = f"{arguments.size} voxels and pixels per side, from {arguments.start_mm:g} mm, {record['device']}: {where}"
    if arguments.plot:
        plot(trajectories, title, arguments.plot)
    print(json.dumps(record) if arguments.json else f"{title}\n\n{table(record)}")


if __name__ == "__main__":
    main()
