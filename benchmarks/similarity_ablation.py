"""Ablation of the metric and losses of a learned similarity: the same training of each, the same validation pairs.

    python benchmarks/similarity_ablation.py CT --range config/carm.yaml --steps 1500 > ablation.md

Columns: the cosines of the gradients (rotations, translations) and the median error of the distance that a value predicts for
initial poses. Then, for Levenberg-Marquardt (as in spherical-lm) and gradient descent (the best of some rates and momenta) on
the learned value alone, from the initial poses of the validation pairs: the fraction that ends within `NEAR_MM` of the truth,
the median distance there, and the iterations until the pose stays within `NEAR_END_MM` of its end. Distances count a rad as 100
mm.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import from_mapping, load_yaml
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.learned import AbstractLearnedSimilarity, LearnedProblem
from fluoro_reg.learned.similarity import Projection, Projector
from fluoro_reg.optimisers import AutogradProblem, GradientDescent, LevenbergMarquardt, Schedule
from fluoro_reg.registration.method import load_method
from fluoro_reg.training.gradient_direction import LENGTH_MM, geodesic_mm
from fluoro_reg.training.pairs import PairOptions, Pairs
from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions

NEAR_MM, NEAR_END_MM = 15.0, 2.0
EVALUATED_PAIRS = 8  # validation pairs that the optimisers start from
STEPS = ((300.0, 0.5), (1000.0, 0.5), (300.0, 0.9))  # of descents: rate (mm^2) and momentum


def variants(options: SimilarityTrainingOptions) -> Iterator[tuple[str, SimilarityTrainingOptions]]:
    """Yield name and settings of every training."""
    for metric in ("euclidean", "angle", "so4"):
        changed = replace(options, spherical=replace(options.spherical, metric=metric))
        yield f"{metric}, directions and values", changed
        yield f"{metric}, directions alone", replace(changed, value_loss=0.0)
    yield "angle, values alone", replace(options, direction_loss=0.0)
    yield "angle, depth counted as mm across", replace(options, depth_weight=1.0)


@dataclass
class Recorder:
    """A projector that records the poses it is called with."""

    projector: Projector
    poses: list[RigidTransform]

    def __call__(self, poses: RigidTransform) -> Projection:
        self.poses.append(poses[0])
        return self.projector(poses)


@dataclass
class Descents:
    """The results of one optimiser from all initial poses: distances to the truth, mm, and iterations until near the end."""

    final_distances: list[float]
    near_end: list[int]

    def __str__(self) -> str:
        near = np.mean(np.array(self.final_distances) < NEAR_MM)
        return f"{near:.0%} | {np.median(self.final_distances):.1f} | {np.median(self.near_end):.0f}"


def distance_mm(poses: RigidTransform, other: RigidTransform, pivot: torch.Tensor) -> np.ndarray:
    others = RigidTransform.stack([other] * len(poses.translation))
    return geodesic_mm(poses, others, pivot).numpy()


@torch.no_grad()
def run_descents(network: AbstractLearnedSimilarity, pairs: Pairs, optimiser: LevenbergMarquardt | GradientDescent) -> Descents:
    """Run the optimiser from the initial poses of the first validation pairs, each with its own X-ray."""
    projector, pivot, results = network.make_projector(), network.reference.pivot, Descents([], [])
    fixed = network.embed_fixed(pairs.images)
    for n in range(min(EVALUATED_PAIRS, len(fixed))):
        recorder, start = Recorder(projector, []), pairs.starts[n : n + 1]
        problem = LearnedProblem(network, recorder, fixed[n : n + 1])
        if isinstance(optimiser, LevenbergMarquardt):
            end = optimiser.minimise(problem, problem.evaluate(start))[0].poses
        else:
            end = retract(start, optimiser.minimise(AutogradProblem(problem), start).twists, pivot)
        distances = distance_mm(RigidTransform.stack(recorder.poses), end[0], pivot)
        results.final_distances.append(float(distance_mm(end, pairs.truth[n], pivot)[0]))
        results.near_end.append(
            int(len(distances) - np.argmax((distances > NEAR_END_MM)[::-1])) if (distances > NEAR_END_MM).any() else 0
        )
    return results


@torch.no_grad()
def median_distance_error_mm(network: AbstractLearnedSimilarity, pairs: Pairs) -> float:
    """Return the median error of the distances that values predict for the initial poses."""
    problem = LearnedProblem(network, network.make_projector(), network.embed_fixed(pairs.images))
    predicted = network.calibration.distance_mm(problem.values_at(pairs.starts) * network.scale)
    return float((predicted - geodesic_mm(pairs.starts, pairs.truth, network.reference.pivot)).abs().median())


def best_descent(network: AbstractLearnedSimilarity, pairs: Pairs) -> tuple[str, Descents]:
    """Return the descent with the most results near the truth, and among equals the fastest."""
    results = []
    for rate, momentum in STEPS:
        schedule = Schedule(steps=150, progress=1e-3, patience=20, plateaus=1)
        result = run_descents(network, pairs, GradientDescent((rate, rate / LENGTH_MM**2), momentum, schedule))
        results.append((f"{rate:g} mm^2, {momentum:g}", result))
    return max(results, key=lambda item: (np.mean(np.array(item[1].final_distances) < NEAR_MM), -np.median(item[1].near_end)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--range", type=Path, required=True, help="carm.yaml")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose names contain this text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    volume = read_ct(arguments.ct)
    carm = from_mapping(CarmRange, load_yaml(arguments.range), arguments.range.name)
    options = SimilarityTrainingOptions(kind="spherical", steps=arguments.steps, validations=4, patience=1000)
    options = replace(options, pairs=PairOptions(around="middle"))  # as published
    optimiser = load_method("spherical-lm").stages[0].optimiser
    assert isinstance(optimiser, LevenbergMarquardt)
    print(f"{arguments.steps} steps each; {EVALUATED_PAIRS} pairs\n")
    print(
        "| training | rotations | translations | distance error, mm | LM near | mm | iterations |"
        " descent near | mm | iterations | rate, momentum |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    )
    for name, changed in (variant for variant in variants(options) if arguments.only in variant[0]):
        training = SimilarityTraining(volume, carm, changed)
        with tempfile.TemporaryDirectory() as folder:
            best = training.run(Path(folder) / "w.safetensors")
        network, pairs = training.state.average, training.subjects[0].validation_pairs
        rate, descent = best_descent(network, pairs)
        distance_error = median_distance_error_mm(network, pairs)
        cosines = f"{best.rotation_cosine:.3f} | {best.translation_cosine:.3f} | {distance_error:.1f}"
        print(f"| {name} | {cosines} | {run_descents(network, pairs, optimiser)} | {descent} | {rate} |", flush=True)


if __name__ == "__main__":
    main()
