"""The state of a running registration: the request, the run of each view, the assessment and the times."""

import time
from dataclasses import dataclass, replace

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.assessment.evidence import Assessment
from fluoro_reg.registration.result import Outcome
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.objective import PosePrior
from fluoro_reg.registration.stages.refined import Refined
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.registration.stages.view_search import QUICK, Effort
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed


@dataclass(frozen=True, slots=True)
class Request:
    """The input other than the images.

    `initial_pose` is `reference_from_patient`. `joint` asks for a joint refinement in the reference frame, even of one view.
    `readings` are the only ones to try, where they are plausible. `decoy_similarity` is what decoys of an earlier frame have
    reached. `parts` are the ranges of views to search; empty: the registrar's. Unless `is_thorough`, a search of them is quick.
    """

    initial_pose: RigidTransform | None
    prior: PosePrior | None = None
    tracking: bool = False
    joint: bool = False
    readings: tuple[str, ...] = ()
    decoy_similarity: float | None = None
    parts: tuple[CarmRange, ...] = ()
    is_thorough: bool = True

    def named(self, reason: str, number: int) -> str:
        """The reason, with the number of its view in a joint registration."""
        return f"view {number}: {reason}" if self.joint else reason


@dataclass(frozen=True, slots=True)
class ViewRun:
    """One X-ray: preprocessed, with its initial pose, its reading, and what was found.

    Where `refined` is None, `outcome` and `reason` say why.
    """

    prepared: Preprocessed
    initial_pose: RigidTransform | None
    solver: Solver | None = None
    refined: Refined | None = None
    outcome: Outcome = Outcome.NOT_CONVERGED
    reason: str = ""
    reading: str = ""
    n_renders: int = 0
    initial: InitialPoses = InitialPoses([])  # known before any search
    is_searched: bool = False  # in all views of a range
    effort: Effort = QUICK  # of that search
    stands_out: bool = False  # as in the result

    def rejected(self, outcome: Outcome, reason: str) -> "ViewRun":
        """The same run, ended with a reason."""
        return replace(self, outcome=outcome, reason=reason)

    def warnings(self, found: RigidTransform | None) -> tuple[str, ...]:
        """A sentence for each pose of one X-ray that the weights in use have not been trained for."""
        solver = self.solver
        problems = [] if solver is None else list(solver.learned.values())
        seen = [one for one in (self.initial.seen, *(problem.seen for problem in problems)) if one is not None]
        poses = [("the pose that was found", found)]
        if problems and self.initial.searched:
            poses.append(("the initial pose", self.initial.searched[0]))
        sentences = [one.warning(what, pose) for one in seen for what, pose in poses if pose is not None]
        return tuple(sentence for sentence in sentences if sentence is not None)


@dataclass(frozen=True, slots=True)
class AssessedPose:
    """The assessment of the best pose (`reference_from_patient`), and the index of the view that it is about."""

    assessment: Assessment
    view: int
    pose: RigidTransform
    n_renders: int


class Clock:
    """Seconds by stage; the times of repeated stages are added."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._begin = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap for stage `name`."""
        now = time.perf_counter()
        self.laps[name], self._last = self.laps.get(name, 0.0) + now - self._last, now

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._begin
