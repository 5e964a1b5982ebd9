"""Levenberg-Marquardt against descents on learned similarities and without: iterations, seconds and success, same starts.

    fluoro-reg simulate --ct CT --range benchmarks/ranges/about_ap.yaml --cases 60 --set variants=[standard] \\
        --set start_mm=[[10,25],[25,50],[50,100]] --out CASES
    python benchmarks/learned_descents.py CASES --similarity SPHERICAL.safetensors --similarity PROST.safetensors --out OUT

Each method runs whole and every iteration's pose is recorded, rejected trials of Levenberg-Marquardt included. `to the end` are
the iterations of the stage that is compared (the learned one, where there is one) until its optimiser stops; `to 10 mm` those
until its mTRE is first below 10 mm, of the starts that get there. Seconds are those of that stage, on this machine. OUT.png
shows the medians of mTRE by iteration.
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
from fluoro_reg.evaluation.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned import similarity_kind
from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.methods import StageOptions
from fluoro_reg.registration.options import LearnedOptions
from fluoro_reg.registration.pose_values import PoseValues, moved
from fluoro_reg.xray.reader import read_xray

NEAR_MM, RIGHT_MM = 10.0, 2.0
METHODS = {
    "spherical-lm": "spherical, Levenberg-Marquardt",
    "spherical-gd": "spherical, gradient descent",
    "prost": "ProST, gradient descent",
    "lm-local": "gradient NCC, Levenberg-Marquardt",
    "adam-diffpose": "NCC of patches, Adam",
}


@dataclass
class Track:
    """The poses that a stage's optimiser evaluated, one an iteration, and its time."""

    poses: list[RigidTransform] = field(default_factory=list)
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
        of = self.problem.problem
        if isinstance(of, PoseValues):
            poses = moved(starts, twists, of.model.pivot)
        else:
            poses = retract(starts, twists, of.network.reference.pivot)
        self.track.poses.append(poses[0])
        return self.problem.values_and_gradient(starts, twists)


def recorded(stage: StageOptions, track: Track) -> StageOptions:
    """The stage with an optimiser that fills the track."""
    optimiser = stage.optimiser
    kind = type(optimiser)
    by_residuals = isinstance(optimiser, LevenbergMarquardt)

    class Recording(kind):  # type: ignore[misc, valid-type]
        def minimise(self, problem: Any, start: Any) -> Any:
            track.poses.append((start.poses if by_residuals else start)[0])
            begin = time.perf_counter()
            found = kind.minimise(self, (Squares if by_residuals else Gradients)(problem, track), start)
            track.seconds += time.perf_counter() - begin
            return found

    return replace(stage, optimiser=Recording(**{f.name: getattr(optimiser, f.name) for f in fields(optimiser)}))


def run(registrar: Registrar, case: RegistrationCase) -> tuple[np.ndarray, float, float]:
    """mTRE by iteration of the compared stages, their seconds, and the mTRE of the whole method's end."""
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

    return np.array([mtre(pose) for pose in track.poses]), track.seconds, mtre(result.camera_from_patient)


def row(curves: Sequence[np.ndarray], seconds: Sequence[float], ends: Sequence[float]) -> str:
    """The figures of one method in one band."""
    last = np.array([curve[-1] for curve in curves])
    stop = np.array([len(curve) - 1 for curve in curves])
    near = [int(np.argmax(curve < NEAR_MM)) for curve in curves if (curve < NEAR_MM).any()]
    cells = (
        f"{np.median(stop):.0f}",
        f"{np.median(near):.0f}" if near else "-",
        f"{np.median(seconds):.2f}",
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
    parser.add_argument("--out", type=Path, required=True, help="name of the picture, without .png")
    arguments = parser.parse_args()
    cases = [read_case(folder) for folder in find_cases(arguments.folder)]
    learned = LearnedOptions(**{similarity_kind(path): path for path in arguments.similarity})
    volume = read_ct(cases[0].ct)
    bands = list(dict.fromkeys(case.start_band_mm for case in cases))
    names = [f"{low:g} to {high:g}" for low, high in bands]  # type: ignore[misc]
    print(
        "| starts, mm | method | to the end | to 10 mm | s | mTRE then | below 10 mm | mTRE of the whole method | below 2 mm |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    curves: dict[tuple[str, str], list[np.ndarray]] = {}
    for method in arguments.methods.split(","):
        registrar = Registrar(volume, RegistrationOptions(method=method, learned=learned))
        run(registrar, cases[0])  # compiles
        for band, name in zip(bands, names, strict=True):
            found = [run(registrar, case) for case in cases if case.start_band_mm == band]
            curves[method, name] = [curve for curve, _, _ in found]
            print(f"| {name} | `{method}` | " + row(*zip(*found, strict=True)) + " |", flush=True)  # type: ignore[arg-type]
    draw(arguments.out.with_suffix(".png"), curves, names)


if __name__ == "__main__":
    main()
