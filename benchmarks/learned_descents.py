"""Levenberg-Marquardt against descents on learned similarities and without: iterations, seconds and success, same starts.

    fluoro-reg simulate --ct CT --range benchmarks/ranges/about_ap.yaml --cases 60 --set variants=[standard] \\
        --set start_mm=[[10,25],[25,50],[50,100]] --out CASES
    python benchmarks/learned_descents.py CASES --similarity SPHERICAL.safetensors --similarity PROST.safetensors --out OUT

Each method runs whole and every iteration's pose is recorded, rejected trials of Levenberg-Marquardt included. `to the end` are
the iterations of the stage that is compared (the learned one, where there is one) until its optimiser stops, `settled` those
until it stays within 2 mm of where it ends, `to 10 mm` those until its mTRE is first below 10 mm, of the starts that get there.
Seconds are those of that stage, on this machine. `--descent RATE,MOMENTUM` (mm^2) gives the descents on learned similarities
other steps. OUT.png shows the medians of mTRE by iteration.
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

NEAR_MM, RIGHT_MM, SETTLED_MM = 10.0, 2.0, 2.0
METHODS = {
    "spherical-lm": "spherical, Levenberg-Marquardt",
    "spherical-gd": "spherical, gradient descent",
    "prost": "ProST, gradient descent",
    "lm-local": "gradient NCC, Levenberg-Marquardt",
    "adam-diffpose": "NCC of patches, Adam",
}


@dataclass
class Track:
    """The poses that a stage's optimiser evaluated, the start and one an iteration, where it ended, and its time."""

    poses: list[RigidTransform] = field(default_factory=list)
    end: RigidTransform | None = None
    seconds: float = 0.0


@dataclass
class Squares:
    """A least-squares problem that notes where it is evaluated."""

    problem: Any
    track: Track

    def retract(self, at: Any, step: torch.Tensor) -> Any:
        evaluated = self.problem.retract(at, step)
        self.track.poses.append(evaluated.poses[0])
        return evaluated

    def linearise(self, at: Any) -> Any:
        return self.problem.linearise(at)

    def cost(self, trial: Any, reference: Any) -> torch.Tensor:
        return self.problem.cost(trial, reference)


@dataclass
class Gradients:
    """A gradient problem that notes where it is evaluated."""

    problem: Any
    track: Track

    def values_and_gradient(self, starts: RigidTransform, twists: torch.Tensor) -> Any:
        self.track.poses.append(self.away(starts, twists)[0])
        return self.problem.values_and_gradient(starts, twists)

    def away(self, starts: RigidTransform, twists: torch.Tensor) -> RigidTransform:
        """Poses by the chart of the problem."""
        of = self.problem.problem
        if isinstance(of, PoseValues):
            return moved(starts, twists, of.model.pivot)
        return retract(starts, twists, of.network.reference.pivot)


def recorded(stage: StageOptions, track: Track) -> StageOptions:
    """The stage with an optimiser that fills the track."""
    optimiser = stage.optimiser
    kind = type(optimiser)
    by_residuals = isinstance(optimiser, LevenbergMarquardt)

    class Recording(kind):  # type: ignore[misc, valid-type]
        def minimise(self, problem: Any, start: Any) -> Any:
            begin = time.perf_counter()
            if by_residuals:
                track.poses += [] if track.poses else [start.poses[0]]
                noted: Any = Squares(problem, track)
                problem.retract(start, torch.zeros(1, 6, dtype=torch.float64))  # the start's evaluation, which counts as well
                found = kind.minimise(self, noted, start)
                track.end = found[0].poses[0]
            else:
                noted = Gradients(problem, track)
                found = kind.minimise(self, noted, start)
                track.end = noted.away(start, found.twists)[0]
            track.seconds += time.perf_counter() - begin
            return found

    return replace(stage, optimiser=Recording(**{f.name: getattr(optimiser, f.name) for f in fields(optimiser)}))


def descending(method: Method, rate_mm2: float, momentum: float) -> Method:
    """The method with other steps of its learned stage's descent."""
    first, *others = method.stages
    if not isinstance(first.optimiser, GradientDescent):
        return method
    optimiser = replace(first.optimiser, rates=(rate_mm2, rate_mm2 / LENGTH_MM**2), momentum=momentum)
    return replace(method, stages=(replace(first, optimiser=optimiser), *others))


def run(registrar: Registrar, case: RegistrationCase) -> tuple[np.ndarray, int, float, float, float]:
    """mTRE by iteration of the compared stages, the iteration from which it stays by its end, mTRE there, the stages' seconds,
    and the mTRE of the whole method's end.
    """
    track = Track()
    stages = registrar.method.stages
    compared = 1 if registrar.method.learned else len(stages)
    registrar.method = replace(
        registrar.method, stages=(*(recorded(stage, track) for stage in stages[:compared]), *stages[compared:])
    )
    try:
        result = registrar.register(read_xray(case.image, case.intrinsics, case.intensity, case.frame), case.initial)
    finally:
        registrar.method = replace(registrar.method, stages=stages)

    def mtre(pose: RigidTransform | None) -> float:
        return np.inf if pose is None else target_registration_errors(pose, case.truth, case.landmarks_patient).mtre_mm

    if track.end is None:
        return np.array([mtre(case.initial)]), 0, np.inf, np.nan, mtre(result.camera_from_patient)
    curve = np.array([mtre(pose) for pose in track.poses])
    away = [target_registration_errors(pose, track.end, case.landmarks_patient).mtre_mm for pose in track.poses]
    late = np.flatnonzero(np.array(away) > SETTLED_MM)
    settled = int(late[-1]) + 1 if len(late) else 0
    return curve, settled, mtre(track.end), track.seconds, mtre(result.camera_from_patient)


def row(
    curves: Sequence[np.ndarray], settled: Sequence[int], then: Sequence[float], seconds: Sequence[float], ends: Sequence[float]
) -> str:
    """The figures of one method in one band."""
    last = np.array(then)
    stop = np.array([len(curve) - 1 for curve in curves])
    near = [int(np.argmax(curve < NEAR_MM)) for curve in curves if (curve < NEAR_MM).any()]
    cells = (
        f"{np.median(stop):.0f}",
        f"{np.median(settled):.0f}",
        f"{np.median(near):.0f}" if near else "-",
        f"{np.nanmedian(seconds):.2f}",
        f"{np.median(last):.1f}",
        f"{np.mean(last < NEAR_MM):.0%}",
        f"{np.median(ends):.2f}",
        f"{np.mean(np.array(ends) < RIGHT_MM):.0%}",
    )
    return " | ".join(cells)


def draw(path: Path, curves: dict[tuple[str, str], list[np.ndarray]], bands: Sequence[str]) -> None:
    """Medians of mTRE by iteration, a panel for each band; a start that has stopped stays where it is."""
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
        ax.set(xscale="log", yscale="log", xlabel="iteration (the start is 1)", title=f"starts of {band} mm")
        ax.axhline(NEAR_MM, color="0.7", lw=0.8, zorder=0)
    figure.axes[0].set_ylabel("median mTRE, mm (quartiles shaded)")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="cases of one CT, with bands of starts")
    parser.add_argument("--similarity", action="append", default=[], help="weights; repeatable")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--descent", metavar="RATE,MOMENTUM")
    parser.add_argument("--out", type=Path, required=True, help="name of the picture, without .png")
    arguments = parser.parse_args()
    cases = [read_case(folder) for folder in find_cases(arguments.folder)]
    learned = LearnedOptions(**{similarity_kind(path): path for path in arguments.similarity})
    volume = read_ct(cases[0].ct)
    bands = list(dict.fromkeys(case.start_band_mm for case in cases))
    names = [f"{low:g} to {high:g}" for low, high in bands]  # type: ignore[misc]
    print("| starts, mm | method | to the end | settled | to 10 mm | s | mTRE then | below 10 mm | whole method | below 2 mm |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    curves: dict[tuple[str, str], list[np.ndarray]] = {}
    for method in arguments.methods.split(","):
        registrar = Registrar(volume, RegistrationOptions(method=method, learned=learned))
        if arguments.descent and registrar.method.learned:
            rate, momentum = map(float, arguments.descent.split(","))
            registrar.method = descending(registrar.method, rate, momentum)
        run(registrar, cases[0])  # compiles
        for band, name in zip(bands, names, strict=True):
            found = [run(registrar, case) for case in cases if case.start_band_mm == band]
            curves[method, name] = [curve for curve, *_ in found]
            print(f"| {name} | `{method}` | " + row(*zip(*found, strict=True)) + " |", flush=True)  # type: ignore[arg-type]
    draw(arguments.out.with_suffix(".png"), curves, names)


if __name__ == "__main__":
    main()
