r"""Levenberg-Marquardt and gradient descents compared, on learned similarities and others, from the same initial poses.

    fluoro-reg simulate --ct CT --range benchmarks/ranges/about_ap.yaml --cases 60 --set variants=[standard] \
        --set start_mm=[[10,25],[25,50],[50,100]] --out CASES
    python benchmarks/learned_descents.py CASES --similarity SPHERICAL.safetensors --similarity PROST.safetensors --out OUT

Every method runs in full, and the pose of every iteration is recorded, including rejected trials of Levenberg-Marquardt. The
comparison is of the learned stage, or of all stages of a method without one. Iterations are medians: `stops` until the
optimiser stops, `near its end` until the pose stays within 2 mm of where it ends, and `at 10 mm` until the mTRE is first below
10 mm, over the cases that reach it. `s` and `stage mTRE` are the time and the result of the stage, `final mTRE` is that of the
whole method. `--descent RATE,MOMENTUM` (mm^2) sets other steps for the descents on learned similarities. OUT.png shows the
median mTRE by iteration.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned import similarity_kind
from fluoro_reg.optimisers import GradientDescent, LevenbergMarquardt
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.method import Method, StageOptions
from fluoro_reg.registration.options import LearnedOptions
from fluoro_reg.registration.stages.pose_values import PoseValues, moved
from fluoro_reg.training.gradient_direction import LENGTH_MM
from fluoro_reg.xray.reader import read_xray

NEAR_MM, SUCCESS_MM, NEAR_END_MM = 10.0, 2.0, 2.0
METHODS = {
    "spherical-lm": "spherical, Levenberg-Marquardt",
    "spherical-gd": "spherical, gradient descent",
    "prost": "ProST, gradient descent",
    "lm-local": "gradient NCC, Levenberg-Marquardt",
    "adam-diffpose": "NCC of patches, Adam",
}


@dataclass
class Trajectory:
    """The poses that a stage's optimiser evaluated (the start and one per iteration), its result, and its time."""

    poses: list[RigidTransform] = field(default_factory=list)
    end: RigidTransform | None = None
    seconds: float = 0.0


@dataclass
class RecordingLeastSquares:
    """A least-squares problem that records where it is evaluated."""

    problem: Any
    trajectory: Trajectory

    def retract(self, at: Any, step: torch.Tensor) -> Any:
        evaluated = self.problem.retract(at, step)
        self.trajectory.poses.append(evaluated.poses[0])
        return evaluated

    def linearise(self, at: Any) -> Any:
        return self.problem.linearise(at)

    def cost(self, trial: Any, reference: Any) -> torch.Tensor:
        return self.problem.cost(trial, reference)


@dataclass
class RecordingGradients:
    """A gradient problem that records where it is evaluated."""

    problem: Any
    trajectory: Trajectory

    def values_and_gradient(self, starts: RigidTransform, twists: torch.Tensor) -> Any:
        self.trajectory.poses.append(self.poses_at(starts, twists)[0])
        return self.problem.values_and_gradient(starts, twists)

    def poses_at(self, starts: RigidTransform, twists: torch.Tensor) -> RigidTransform:
        """Return the poses of twists in the chart of the problem."""
        of = self.problem.problem
        if isinstance(of, PoseValues):
            return moved(starts, twists, of.model.pivot)
        return retract(starts, twists, of.network.reference.pivot)


def with_recording(stage: StageOptions, trajectory: Trajectory) -> StageOptions:
    """Return the stage with an optimiser that fills the trajectory."""
    optimiser = stage.optimiser
    kind = type(optimiser)
    by_residuals = isinstance(optimiser, LevenbergMarquardt)

    class Recording(kind):  # type: ignore[misc, valid-type]
        def minimise(self, problem: Any, start: Any) -> Any:
            start_time = time.perf_counter()
            if by_residuals:
                trajectory.poses += [] if trajectory.poses else [start.poses[0]]
                recording_problem: Any = RecordingLeastSquares(problem, trajectory)
                problem.retract(start, torch.zeros(1, 6, dtype=torch.float64))  # evaluates the start, which counts as well
                results = kind.minimise(self, recording_problem, start)
                trajectory.end = results[0].poses[0]
            else:
                recording_problem = RecordingGradients(problem, trajectory)
                results = kind.minimise(self, recording_problem, start)
                trajectory.end = recording_problem.poses_at(start, results.twists)[0]
            trajectory.seconds += time.perf_counter() - start_time
            return results

    return replace(stage, optimiser=Recording(**{f.name: getattr(optimiser, f.name) for f in fields(optimiser)}))


def with_descent_steps(method: Method, rate_mm2: float, momentum: float) -> Method:
    """Return the method with other steps for the descent of its learned stage."""
    first, *others = method.stages
    if not isinstance(first.optimiser, GradientDescent):
        return method
    optimiser = replace(first.optimiser, rates=(rate_mm2, rate_mm2 / LENGTH_MM**2), momentum=momentum)
    return replace(method, stages=(replace(first, optimiser=optimiser), *others))


def run(registrar: Registrar, case: RegistrationCase) -> tuple[np.ndarray, int, float, float, float]:
    """Register a case and return the figures of the compared stages.

    These are the mTRE by iteration, the iteration from which the pose stays near the end, the mTRE there and the seconds,
    followed by the final mTRE of the whole method.
    """
    trajectory = Trajectory()
    stages = registrar.method.stages
    compared = 1 if registrar.method.learned else len(stages)
    registrar.method = replace(
        registrar.method, stages=(*(with_recording(stage, trajectory) for stage in stages[:compared]), *stages[compared:])
    )
    try:
        result = registrar.register(read_xray(case.image, case.intrinsics, case.intensity, case.frame), case.initial)
    finally:
        registrar.method = replace(registrar.method, stages=stages)

    def mtre(pose: RigidTransform | None) -> float:
        return np.inf if pose is None else target_registration_errors(pose, case.truth, case.landmarks_patient).mtre_mm

    if trajectory.end is None:
        return np.array([mtre(case.initial)]), 0, np.inf, np.nan, mtre(result.camera_from_patient)
    curve = np.array([mtre(pose) for pose in trajectory.poses])
    distances_to_end = [
        target_registration_errors(pose, trajectory.end, case.landmarks_patient).mtre_mm for pose in trajectory.poses
    ]
    far_iterations = np.flatnonzero(np.array(distances_to_end) > NEAR_END_MM)
    near_end = int(far_iterations[-1]) + 1 if len(far_iterations) else 0
    return curve, near_end, mtre(trajectory.end), trajectory.seconds, mtre(result.camera_from_patient)


def row(
    curves: Sequence[np.ndarray],
    near_end: Sequence[int],
    stage_errors: Sequence[float],
    seconds: Sequence[float],
    final_errors: Sequence[float],
) -> str:
    """Return the cells of one method in one band."""
    stage_errors_mm = np.array(stage_errors)
    stop = np.array([len(curve) - 1 for curve in curves])
    near = [int(np.argmax(curve < NEAR_MM)) for curve in curves if (curve < NEAR_MM).any()]
    cells = (
        f"{np.median(stop):.0f}",
        f"{np.median(near_end):.0f}",
        f"{np.median(near):.0f}" if near else "-",
        f"{np.nanmedian(seconds):.2f}",
        f"{np.median(stage_errors_mm):.1f}",
        f"{np.mean(stage_errors_mm < NEAR_MM):.0%}",
        f"{np.median(final_errors):.2f}",
        f"{np.mean(np.array(final_errors) < SUCCESS_MM):.0%}",
    )
    return " | ".join(cells)


def plot(path: Path, curves: dict[tuple[str, str], list[np.ndarray]], bands: Sequence[str]) -> None:
    """Plot the median mTRE by iteration, one panel per band; a trajectory that has stopped keeps its last value."""
    figure = Figure(figsize=(4.2 * len(bands), 4), layout="constrained")
    for ax, band in zip(figure.subplots(1, len(bands), sharey=True, squeeze=False)[0], bands, strict=True):
        for method, label in METHODS.items():
            if (method, band) not in curves:
                continue
            longest = max(len(curve) for curve in curves[method, band])
            filled = np.array([np.pad(c, (0, longest - len(c)), mode="edge") for c in curves[method, band]])
            low, middle, high = np.percentile(filled, (25, 50, 75), axis=0)
            (line,) = ax.plot(1 + np.arange(longest), middle, label=label)
            ax.fill_between(1 + np.arange(longest), low, high, color=line.get_color(), alpha=0.12, lw=0)
        ax.set(xscale="log", yscale="log", xlabel="iteration (the initial pose is 1)", title=f"initial poses at {band} mm")
        ax.axhline(NEAR_MM, color="0.7", lw=0.8, zorder=0)
    figure.axes[0].set_ylabel("median mTRE, mm (quartiles shaded)")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="cases of one CT, with bands of initial poses")
    parser.add_argument("--similarity", action="append", default=[], help="weights; repeatable")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--descent", metavar="RATE,MOMENTUM")
    parser.add_argument("--out", type=Path, required=True, help="path of the figure, without .png")
    arguments = parser.parse_args()
    cases = [read_case(folder) for folder in find_cases(arguments.folder)]
    learned = LearnedOptions(**{similarity_kind(path): path for path in arguments.similarity})
    volume = read_ct(cases[0].ct)
    bands = list(dict.fromkeys(case.start_band_mm for case in cases))
    names = [f"{low:g} to {high:g}" for low, high in bands]  # type: ignore[misc]
    print("| start, mm | method | stops | near its end | at 10 mm | s | stage mTRE | below 10 mm | final mTRE | below 2 mm |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    curves: dict[tuple[str, str], list[np.ndarray]] = {}
    for method in arguments.methods.split(","):
        registrar = Registrar(volume, RegistrationOptions(method=method, learned=learned))
        if arguments.descent and registrar.method.learned:
            rate, momentum = map(float, arguments.descent.split(","))
            registrar.method = with_descent_steps(registrar.method, rate, momentum)
        run(registrar, cases[0])  # a warm-up, which compiles
        for band, name in zip(bands, names, strict=True):
            results = [run(registrar, case) for case in cases if case.start_band_mm == band]
            curves[method, name] = [curve for curve, *_ in results]
            print(f"| {name} | `{method}` | " + row(*zip(*results, strict=True)) + " |", flush=True)  # type: ignore[arg-type]
    plot(arguments.out.with_suffix(".png"), curves, names)


if __name__ == "__main__":
    main()
