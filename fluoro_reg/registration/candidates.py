"""Candidates: one reading of an X-ray with one reading of the CT. The coarse stages decide which one explains the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.method import Learned, SearchOptions, StageOptions, learned_similarities
from fluoro_reg.registration.providers import SimilarityProvider
from fluoro_reg.registration.stages.ct_readings import CTReading, CTReadings
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.rivals import with_shifted_rivals
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.registration.stages.view_search import ViewSearch
from fluoro_reg.registration.view_run import Clock, Request
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reading of the X-ray with a reading of the CT, in words `reading`, and the solver for it.

    `initial` are all poses to begin from, `known` those of them that no search of views found.
    """

    prepared: Preprocessed
    known: InitialPoses
    initial: InitialPoses
    solver: Solver
    reading: str


@dataclass(frozen=True, slots=True)
class CandidateMaker:
    """What all candidates of one registrar share."""

    readings: CTReadings
    metric: PoseMetric
    refiners: NCCRefiners
    similarities: Mapping[str, SimilarityProvider]
    view_search: ViewSearch
    distinct_mm: float
    seed: int

    def make(
        self,
        prepared: Preprocessed,
        initial: InitialPoses,
        request: Request,
        stages: tuple[StageOptions, ...],
        search_views: bool,
    ) -> list[Candidate]:
        """One candidate for every plausible reading of the CT.

        Args:
            prepared: The X-ray in one reading.
            initial: The poses to begin from.
            request: What else is known. Where its `reading` is plausible, no other reading of the CT is made.
            stages: The stages to come.
            search_views: Whether to search all views of the C-arm's range, besides the initial poses.

        Raises:
            InputError: The X-ray shows too little of what a learned similarity was trained to see.
        """
        learned = {kind: self.similarities[kind].problem(prepared.image) for kind in learned_similarities(stages)}
        found = dict[str, InitialPoses]()

        def begin_of(reading: CTReading) -> InitialPoses:
            if search_views and reading.name not in found:
                found[reading.name] = initial.with_found(self.view_search.find(reading, prepared, request.parts))
            return found.get(reading.name, initial)

        from_anywhere = search_views and self.view_search.carm.is_along_body and not initial.searched
        plausible = self.readings.plausible(prepared, None if from_anywhere else begin_of(self.readings.whole).first)
        candidates = []
        for reading in [one for one in plausible if _in_words(prepared, one) == request.reading] or plausible:
            begin = begin_of(reading)
            scales = reading.scales(prepared, begin.first)
            solver = Solver(
                scales,
                reading.model,
                self.metric,
                self.refiners,
                request.prior,
                self.distinct_mm,
                self.seed,
                learned,
                keeps_rivals=search_views,
            )
            candidates.append(Candidate(prepared, initial, begin, solver, _in_words(prepared, reading)))
        return candidates


def _in_words(prepared: Preprocessed, reading: CTReading) -> str:
    return f"{prepared.reading}; {reading.name}"


def likeliest(
    candidates: Sequence[Candidate], search: SearchOptions | None, stages: tuple[StageOptions, ...], clock: Clock
) -> tuple[Candidate, RigidTransform]:
    """Search and refine every candidate coarsely. Return the one with the most evidence and its poses; ties go to the first.

    A learned first stage starts from the initial poses. What it finds goes on beside them and beside what a search finds, so
    that a similarity that leads astray costs time, but loses nothing.
    """
    refined, learned = [], dict[int, RigidTransform]()
    for candidate in candidates:
        solver, initial = candidate.solver, candidate.initial
        found = [*(solver.initial_poses(pose, search) for pose in initial.searched), *initial.refined]
        clock.lap("search")
        others = stages
        if isinstance(stages[0].similarity, Learned) and len(stages) > 1:
            if id(initial) not in learned:  # else another reading of the CT, which the similarity does not know
                learned[id(initial)] = solver.run_learned(initial.poses, stages[0])
            found, others = [*found, learned[id(initial)]], stages[1:]
        refined.append((candidate, solver.run_coarse(RigidTransform.cat(found), others)))
        clock.lap("refine")
    best, coarse = refined[0]
    if len(refined) > 1:
        best, coarse = max(refined, key=lambda one: one[0].solver.evidence(one[1]))
        clock.lap("choose a reading")
    if best.solver.keeps_rivals:
        coarse = with_shifted_rivals(best.solver, coarse)
        clock.lap("search")
    return best, coarse
