"""Candidates: one reading of an X-ray with one reading of the CT. The coarse stages decide which one explains the image."""

from collections.abc import Sequence
from dataclasses import dataclass

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.method import SearchOptions, StageOptions
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.registration.view_run import Clock
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reading of the X-ray with a reading of the CT, in words `reading`, and the solver for it."""

    prepared: Preprocessed
    initial: InitialPoses
    solver: Solver
    reading: str


@dataclass(frozen=True, slots=True)
class Winner:
    """The candidate that explains the image best, and its hypotheses after the coarse stages."""

    prepared: Preprocessed
    solver: Solver
    reading: str
    poses: RigidTransform


def likeliest(
    candidates: Sequence[Candidate], search: SearchOptions | None, stages: tuple[StageOptions, ...], clock: Clock
) -> Winner:
    """Search and refine every candidate coarsely, and return the one with the most evidence; ties go to the first."""
    winners = []
    for candidate in candidates:
        solver, initial = candidate.solver, candidate.initial
        found = RigidTransform.cat([*(solver.initial_poses(pose, search) for pose in initial.searched), *initial.refined])
        clock.lap("search")
        poses = solver.run_coarse(found, stages)
        clock.lap("refine")
        winners.append(Winner(candidate.prepared, solver, candidate.reading, poses))
    if len(winners) == 1:
        return winners[0]
    best = max(winners, key=lambda winner: winner.solver.evidence(winner.poses))
    clock.lap("choose a reading")
    return best
