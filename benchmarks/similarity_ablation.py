"""What metric and losses of a learned similarity are worth: the same training of each, judged on the same held-back pairs.

    python benchmarks/similarity_ablation.py CT --range config/carm.yaml --steps 1500 > ablation.md

Columns: cosines of the gradients (turns, shifts); how far the distance that values tell is off (median, of starts); then
Levenberg-Marquardt (as in spherical-lm) and descents (the best of some rates and momenta) on the learned value alone, from the
held-back starts: the share that ends within `NEAR_MM` of the truth, the median distance there, and the iterations until a walk
stays within `SETTLED_MM` of its end. Distances count a rad as 100 mm.
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
from fluoro_reg.optimisers import ByAutograd, GradientDescent, LevenbergMarquardt, Schedule
from fluoro_reg.registration.method import load_method
from fluoro_reg.training.gradient_direction import LENGTH_MM, squared_geodesic
from fluoro_reg.training.pairs import Pairs
from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions

NEAR_MM, SETTLED_MM = 15.0, 2.0
JUDGED = 8  # held-back pairs that are walked
STEPS = ((300.0, 0.5), (1000.0, 0.5), (300.0, 0.9))  # of descents: rate (mm^2) and momentum


def variants(options: SimilarityTrainingOptions) -> Iterator[tuple[str, SimilarityTrainingOptions]]:
    """Name, settings."""
    for metric in ("euclidean", "angle", "so4"):
        changed = replace(options, spherical=replace(options.spherical, metric=metric))
        yield f"{metric}, directions and values", changed
        yield f"{metric}, directions alone", replace(changed, value_loss=0.0)
    yield "angle, values alone", replace(options, direction_loss=0.0)
    yield "angle, depth counted as mm across", replace(options, depth_weight=1.0)


@dataclass
class Recorder:
    """A projector that notes the poses it is asked for."""

    projector: Projector
    poses: list[RigidTransform]

    def __call__(self, poses: RigidTransform) -> Projection:
        self.poses.append(poses[0])
        return self.projector(poses)


@dataclass
class Walks:
    """Of one optimiser, from all starts: distances to the truth at the end (mm), and when each had settled."""

    ends: list[float]
    settled: list[int]

    def __str__(self) -> str:
        near = np.mean(np.array(self.ends) < NEAR_MM)
        return f"{near:.0%} | {np.median(self.ends):.1f} | {np.median(self.settled):.0f}"


def distance_mm(poses: RigidTransform, other: RigidTransform, pivot: torch.Tensor) -> np.ndarray:
    others = RigidTransform.stack([other] * len(poses.translation))
    return (LENGTH_MM * squared_geodesic(poses, others, pivot).sqrt()).numpy()


@torch.no_grad()
def walks(network: AbstractLearnedSimilarity, pairs: list[Pairs], optimiser: LevenbergMarquardt | GradientDescent) -> Walks:
    """Each held-back start with its own X-ray."""
    projector, pivot, found = network.make_projector(), network.reference.pivot, Walks([], [])
    for batch in pairs:
        fixed = network.embed_fixed(batch.views.images)
        for n in range(min(JUDGED, len(batch.starts.translation))):
            recorder, start = Recorder(projector, []), batch.starts[n : n + 1]
            problem = LearnedProblem(network, recorder, fixed[n : n + 1])
            if isinstance(optimiser, LevenbergMarquardt):
                end = optimiser.minimise(problem, problem.evaluate(start))[0].poses
            else:
                end = retract(start, optimiser.minimise(ByAutograd(problem), start).twists, pivot)
            away = distance_mm(RigidTransform.stack(recorder.poses), end[0], pivot)
            found.ends.append(float(distance_mm(end, batch.views.camera_from_patient[n], pivot)[0]))
            found.settled.append(int(len(away) - np.argmax((away > SETTLED_MM)[::-1])) if (away > SETTLED_MM).any() else 0)
    return found


@torch.no_grad()
def told_off_mm(network: AbstractLearnedSimilarity, pairs: list[Pairs]) -> float:
    """The median error of the distances that values tell, for the starts."""
    projector, errors = network.make_projector(), []
    for batch in pairs:
        values = LearnedProblem(network, projector, network.embed_fixed(batch.views.images)).values_at(batch.starts) * network.scale
        told = network.calibration.distance_mm(values)
        true = LENGTH_MM * squared_geodesic(batch.starts, batch.views.camera_from_patient, network.reference.pivot).sqrt()
        errors.append((told - true).abs())
    return float(torch.cat(errors).median())


def descents(network: AbstractLearnedSimilarity, pairs: list[Pairs]) -> tuple[str, Walks]:
    """Of all steps the walks with the most near ends, then the soonest."""
    found = []
    for rate, momentum in STEPS:
        schedule = Schedule(steps=150, progress=1e-3, patience=20, plateaus=1)
        made = walks(network, pairs, GradientDescent((rate, rate / LENGTH_MM**2), momentum, schedule))
        found.append((f"{rate:g} mm^2, {momentum:g}", made))
    return max(found, key=lambda item: (np.mean(np.array(item[1].ends) < NEAR_MM), -np.median(item[1].settled)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--range", type=Path, required=True, help="carm.yaml")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", default="", metavar="TEXT", help="lines whose name holds this text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    volume = read_ct(arguments.ct)
    carm = from_mapping(CarmRange, load_yaml(arguments.range), arguments.range.name)
    options = SimilarityTrainingOptions(kind="spherical", steps=arguments.steps, validations=4, patience=1000)
    optimiser = load_method("spherical-lm").stages[0].optimiser
    assert isinstance(optimiser, LevenbergMarquardt)
    print(f"{arguments.steps} steps each; {JUDGED} walks\n")
    print(
        "| training | turns | shifts | told off, mm | LM near | mm | settled | descent near | mm | settled | rate, momentum |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    )
    for name, changed in (variant for variant in variants(options) if arguments.only in variant[0]):
        training = SimilarityTraining(volume, carm, changed)
        with tempfile.TemporaryDirectory() as folder:
            best = training.run(Path(folder) / "w.safetensors")
        network, held_back = training.state.average, training.subjects[0].held_back
        judged = held_back[:1]
        rate, descent = descents(network, judged)
        cosines = f"{best.rotation_cosine:.3f} | {best.translation_cosine:.3f} | {told_off_mm(network, held_back):.1f}"
        print(f"| {name} | {cosines} | {walks(network, judged, optimiser)} | {descent} | {rate} |", flush=True)


if __name__ == "__main__":
    main()
