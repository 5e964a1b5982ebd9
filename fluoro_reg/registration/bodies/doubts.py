"""Which of the bodies that pass their gates must be doubted after all, because others explain as much.

A body may resemble another place nearby (`places`), or its neighbour (`swap`). A body that hangs on one in doubt is in doubt as
well: its joint put it where it was sought. So a body is also doubted if what it hangs on was rejected here and has a place
nearby that explains the image. A parent out of the field tells nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fluoro_reg.registration.bodies.alone import AloneSolver
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.places import PlaceCheck
from fluoro_reg.registration.bodies.scene import Poses
from fluoro_reg.registration.bodies.swap import SwapCheck
from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.stages.joint import JointRefined

Results = dict[str, RegistrationResult]


@dataclass(frozen=True, slots=True)
class Doubts:
    """Checks the bodies of a scene, parents before their children; `alone` registers one of them."""

    alone: AloneSolver
    gate: GateOptions

    def settle(self, new: Sequence[Body], results: Results, poses: Poses, evaluated: Mapping[str, JointRefined]) -> Results:
        """The results, in which `new` bodies, accepted but not in earlier images, are ambiguous where they must be doubted."""
        away_mm = self._away_mm(new, results, poses)
        results = _unless_elsewhere(new, results, away_mm)
        results = self._unless_swapped(results, poses, evaluated)
        return _unless_hanging_on_doubt(self.alone.bodies, new, results, away_mm)

    def _away_mm(self, new: Sequence[Body], results: Results, poses: Poses) -> dict[str, float]:
        """How far away another place is of each new body, and of each rejected one that a new body hangs on."""
        bodies = {body.name: body for body in self.alone.bodies}
        places = PlaceCheck(
            self.alone.bodies, self.alone.views, self.gate.distinct_mm, self.alone.seed, self.gate.minimum_margin
        )
        doubtful = [body for body in _ancestors(new, bodies) if self._is_seen(results[body.name])]
        away = {body.name: places.another_place_mm(body, poses) for body in (*new, *doubtful)}
        return {name: distance for name, distance in away.items() if distance is not None}

    def _is_seen(self, result: RegistrationResult) -> bool:
        """Whether a body was rejected although the image shows it."""
        return not result.accepted and result.scores.get("pixels", 0.0) >= self.gate.minimum_pixels

    def _unless_swapped(self, results: Results, poses: Poses, evaluated: Mapping[str, JointRefined]) -> Results:
        swap = SwapCheck(self.alone, self.alone.views, self.gate.minimum_margin)
        for name, neighbour in swap.swapped_with(tuple(self.alone.bodies), poses, evaluated).items():
            reason = f"at the place of {neighbour}, and {neighbour} here, it explains the image as well"
            results = _ambiguous(results, name, reason)
        return results


def _ancestors(bodies: Sequence[Body], by_name: Mapping[str, Body]) -> list[Body]:
    """What bodies hang on, but for themselves and the reference."""
    found, names = dict[str, Body](), {body.name for body in bodies}
    for body in bodies:
        joint = body.joint
        while joint is not None:
            parent = by_name[joint.parent]
            joint = parent.joint
            if joint is not None and parent.name not in names:
                found[parent.name] = parent
    return list(found.values())


def _unless_elsewhere(new: Sequence[Body], results: Results, away_mm: Mapping[str, float]) -> Results:
    for body in new:
        if body.name in away_mm:
            distance = away_mm[body.name]
            reason = f"another place, {distance:.0f} mm away, explains the image as well; check the joint"
            results = _ambiguous(results, body.name, reason)
    return results


def _unless_hanging_on_doubt(
    bodies: Sequence[Body], new: Sequence[Body], results: Results, away_mm: Mapping[str, float]
) -> Results:
    """The results, in which new bodies are ambiguous from the doubted one down to the next that earlier images confirmed."""
    names = {body.name for body in new}
    doubted = {*away_mm, *(name for name, result in results.items() if result.outcome is Outcome.AMBIGUOUS)}
    for body in bodies:
        is_confirmed = results[body.name].accepted and body.name not in names
        if body.joint is not None and body.joint.parent in doubted and not is_confirmed:
            doubted.add(body.name)
            reason = f"its parent {body.joint.parent} may be at the wrong place; check the joint of {body.joint.parent}"
            results = _ambiguous(results, body.name, reason)
    return results


def _ambiguous(results: Results, name: str, reason: str) -> Results:
    """The results with an accepted body called ambiguous."""
    if not results[name].accepted:
        return results
    return {**results, name: replace(results[name], outcome=Outcome.AMBIGUOUS, reason=reason)}
