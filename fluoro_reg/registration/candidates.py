"""Candidates: one reading of an X-ray with one reading of the CT, the poses to begin from and the solver."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fluoro_reg.errors import InputError
from fluoro_reg.registration.method import StageOptions, learned_similarities
from fluoro_reg.registration.providers import SimilarityProvider
from fluoro_reg.registration.stages.ct_readings import CTReading, CTReadings
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.registration.stages.view_search import QUICK, Effort, ViewSearch
from fluoro_reg.registration.view_run import Request
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed, without_instruments


class UnusableXrayError(InputError):
    """An X-ray that the similarities of a method cannot be computed for."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reading of the X-ray with a reading of the CT, in words `reading`, and the solver for it.

    `initial` are all poses to begin from, `known` those of them that no search of views found; `effort` is that of the search.
    """

    prepared: Preprocessed
    known: InitialPoses
    initial: InitialPoses
    solver: Solver
    reading: str
    effort: Effort = QUICK


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

    def all(
        self,
        prepared: Sequence[Preprocessed],
        initial: Sequence[InitialPoses],
        request: Request,
        stages: tuple[StageOptions, ...],
        search_views: bool,
        effort: Effort = QUICK,
    ) -> Iterator[Candidate]:
        """Make the candidates for all readings of an X-ray, with the initial poses of each, as they are asked for.

        Readings of the X-ray from which a regressor could not predict a pose are left out, if it could from another. So are
        those that the request's `readings` do not name, unless they name none of them. Where all views are searched, each that
        shows instruments is tried without them, too. The other arguments are those of `make`.

        Raises:
            UnusableXrayError: Every reading shows too little of what a learned similarity was trained to see.
        """
        problems, is_usable = list[InputError](), False
        everything = list(zip(prepared, initial, strict=True))
        everything = [pair for pair in everything if pair[1].searched] or everything
        named = {reading.rpartition("; ")[0] for reading in request.readings}
        everything = [pair for pair in everything if pair[0].reading in named] or everything
        for one, poses in _and_without_instruments(everything) if search_views else everything:
            try:
                for candidate in self.make(one, poses, request, stages, search_views, effort):
                    is_usable = True
                    yield candidate
            except InputError as error:
                problems.append(error)
        if not is_usable:
            raise UnusableXrayError(str(problems[0]))

    def make(
        self,
        prepared: Preprocessed,
        initial: InitialPoses,
        request: Request,
        stages: tuple[StageOptions, ...],
        search_views: bool,
        effort: Effort = QUICK,
    ) -> Iterator[Candidate]:
        """Make one candidate for every plausible reading of the CT, as they are asked for.

        Args:
            prepared: The X-ray in one reading.
            initial: The poses to begin from.
            request: What else is known. Where its `readings` are plausible, no other reading of the CT is made.
            stages: The stages to come.
            search_views: Whether to search all views of the C-arm's range, besides the initial poses.
            effort: How to search them.

        Raises:
            InputError: The X-ray shows too little of what a learned similarity was trained to see.
        """
        learned = {kind: self.similarities[kind].problem(prepared.image) for kind in learned_similarities(stages)}
        found = dict[str, InitialPoses]()

        def begin_of(reading: CTReading) -> InitialPoses:
            if search_views and reading.name not in found:
                found[reading.name] = initial.with_found(self.view_search.find(reading, prepared, request.parts, effort))
            return found.get(reading.name, initial)

        from_anywhere = self.view_search.carm.is_along_body and not initial.searched
        plausible = self.readings.plausible(prepared, None if from_anywhere else begin_of(self.readings.whole).first)
        for reading in [one for one in plausible if _in_words(prepared, one) in request.readings] or plausible:
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
            yield Candidate(prepared, initial, begin, solver, _in_words(prepared, reading), effort)


def _and_without_instruments(
    everything: Sequence[tuple[Preprocessed, InitialPoses]],
) -> Iterator[tuple[Preprocessed, InitialPoses]]:
    yield from everything
    for one, poses in everything:
        if (other := without_instruments(one)) is not None:
            yield other, poses


def _in_words(prepared: Preprocessed, reading: CTReading) -> str:
    return f"{prepared.reading}; {reading.name}"
