"""The likeliest of the candidates: the coarse stages decide which reading of an X-ray and of the CT explains the image.

Where all views are searched, a candidate takes seconds. There, no other is tried once the whole CT explains the image with
certainty. The best pose of a reading that is not right has rivals: other poses, far from it, that explain the image nearly as
well. A pose that has been found stands out from them. Where none does, the likely readings are searched thoroughly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.candidates import Candidate
from fluoro_reg.registration.method import Learned, SearchOptions, StageOptions
from fluoro_reg.registration.stages.rivals import with_mirrored_rivals, with_shifted_rivals
from fluoro_reg.registration.stages.solver import HOPELESS
from fluoro_reg.registration.view_run import Clock

STANDS_OUT = 1.5  # times the evidence of the best rival; those with less than `RIVAL` of the best are dropped on the way


@dataclass(frozen=True, slots=True)
class Likeliest:
    """The likeliest reading after the coarse stages, its poses, and all candidates that were tried."""

    best: "Tried"
    poses: RigidTransform
    candidates: Sequence[Candidate]

    @property
    def candidate(self) -> Candidate:
        return self.best.candidate

    @property
    def stands_out(self) -> bool:
        """Whether a search of all views has found a pose that explains far more than all its rivals."""
        return self.best.is_certain or _is_far_above_rivals(self.candidate, self.poses)

    @property
    def n_renders(self) -> int:
        """Views rendered for all candidates until now."""
        return sum(candidate.solver.n_renders for candidate in self.candidates)


def likeliest(
    candidates: Iterable[Candidate],
    search: SearchOptions | None,
    stages: tuple[StageOptions, ...],
    certain_similarity: float,
    clock: Clock,
    thoroughly: Callable[[tuple[str, ...]], Iterable[Candidate]] | None = None,
) -> Likeliest:
    """Search and refine candidates coarsely, and return the likeliest; ties go to the first.

    After a search of all views, those come first whose best pose stands out. Among the others, and where no view was searched,
    it is the one with the most evidence.

    Args:
        candidates: One at least.
        search: The search around given poses, if there is one.
        stages: All but the last are run.
        certain_similarity: After a search of all views, no candidate is tried beyond a whole CT that is so similar.
        clock: Counts the time.
        thoroughly: Makes candidates for some readings by a more thorough search of all views, where no pose stands out. What
            the first search has found in such a reading stays beside what this one finds.
    """
    tried = list(_tried(candidates, search, stages, certain_similarity, clock))
    if thoroughly is not None and not (tried[-1].is_certain or _stands_out(tried)):
        again = thoroughly(tuple(one.candidate.reading for one in _likely(tried)))
        clock.lap("choose a reading")
        for one in _tried(again, search, stages, certain_similarity, clock):
            tried.append(one)
            if _stands_out(tried):
                break
    best = tried[0]
    if len(tried) > 1:
        best = max(_likely(tried), key=lambda one: (one.stands_out, one.evidence))
        clock.lap("choose a reading")
    poses = RigidTransform.cat([best.poses, *(one.poses for one in tried if one is not best and one.is_about(best))])
    if best.candidate.solver.keeps_rivals:
        poses = with_mirrored_rivals(best.candidate.solver, poses, search, stages)
        poses = with_shifted_rivals(best.candidate.solver, poses)
        clock.lap("search")
    return Likeliest(best, poses, [one.candidate for one in tried])


@dataclass(frozen=True)
class Tried:
    """A candidate after the coarse stages, its poses, and whether the whole CT explains the image with certainty."""

    candidate: Candidate
    poses: RigidTransform
    is_certain: bool

    @property
    def kind(self) -> str:
        """What is compared: a body, an object or bone."""
        return self.candidate.solver.model.compared

    def is_about(self, other: "Tried") -> bool:
        """Whether the other was tried in the same reading."""
        return self.candidate.reading == other.candidate.reading

    @cached_property
    def evidence(self) -> float:
        return self.candidate.solver.evidence(self.poses)

    @cached_property
    def stands_out(self) -> bool:
        """Whether a search of all views has found a pose that explains far more than its rivals."""
        return self.is_certain or _is_far_above_rivals(self.candidate, self.poses)


def _likely(tried: Sequence[Tried]) -> list[Tried]:
    """Those that are not hopeless beside the best of their kind. Wrong poses explain a body's wide edges better than bone."""
    best = dict[str, float]()
    for one in tried:
        best[one.kind] = max(one.evidence, best.get(one.kind, 0.0))
    return [one for one in tried if one.evidence >= HOPELESS * best[one.kind]]


def _is_far_above_rivals(candidate: Candidate, poses: RigidTransform) -> bool:
    solver = candidate.solver
    return solver.keeps_rivals and solver.evidence(poses) > STANDS_OUT * solver.evidence_of_rival(poses)


def _stands_out(tried: Sequence[Tried]) -> bool:
    return any(one.stands_out for one in _likely(tried))


def _tried(
    candidates: Iterable[Candidate],
    search: SearchOptions | None,
    stages: tuple[StageOptions, ...],
    certain_similarity: float,
    clock: Clock,
) -> Iterator[Tried]:
    """Run the coarse stages for one candidate after the other.

    A learned first stage starts from the initial poses. The search is then also around what it has found, which is nearer, but
    not near enough for Levenberg-Marquardt. All of this goes on apart from the initial poses and what is found around them, so
    that a similarity that leads astray costs time, but loses nothing.
    """
    learned = dict[int, RigidTransform]()
    for candidate in candidates:
        solver, initial = candidate.solver, candidate.initial
        found = [*(solver.initial_poses(pose, search) for pose in initial.searched), *initial.refined]
        clock.lap("search")
        groups, others = [RigidTransform.cat(found)], stages
        if isinstance(stages[0].similarity, Learned) and len(stages) > 1:
            if id(initial) not in learned:  # else another reading of the CT, which the similarity does not know
                learned[id(initial)] = solver.run_learned(initial.poses, stages[0])
            reached, others = learned[id(initial)], stages[1:]
            around = [solver.initial_poses(reached[k], search) for k in range(len(reached.translation))]
            groups.append(RigidTransform.cat(around))
        poses = solver.run_apart(groups, others)
        is_body = solver.keeps_rivals and solver.model.compared == "body"
        is_certain = is_body and solver.similarity(poses) >= certain_similarity
        clock.lap("refine")
        yield Tried(candidate, poses, is_certain)
        if is_certain:
            break
