"""Whether two bodies have taken each other's place: neighbours such as two vertebrae resemble each other.

A bone that slid onto its neighbour may look right by itself. So two neighbours are put at each other's place, turned as the
reference is, and both are refined in the X-ray without all other bodies, by the image alone. If they explain it as well there,
nothing tells which one is where.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.assessment.evidence import similarities
from fluoro_reg.registration.bodies.alone import AloneSolver
from fluoro_reg.registration.bodies.body import Body, size_mm
from fluoro_reg.registration.bodies.scene import Poses, SeenView, without_others
from fluoro_reg.registration.bodies.together import refine_together
from fluoro_reg.registration.stages.joint import JointRefined

NEIGHBOURS = 1.0  # two bodies are neighbours if their centres are closer than this times the size of the larger one
SAME_SIZE = 1.6  # and if neither is larger than the other by more than this factor


@dataclass(frozen=True, slots=True)
class SwapCheck:
    """Swaps neighbours of a scene in turn; `margin` is the similarity by which a pair must be better as it is."""

    alone: AloneSolver
    views: Sequence[SeenView]
    margin: float

    def swapped_with(self, bodies: Sequence[Body], poses: Poses, found: Mapping[str, JointRefined]) -> dict[str, str]:
        """For every body that could as well be at its neighbour's place, the neighbour."""
        doubtful = dict[str, str]()
        for first, second in combinations([body for body in bodies if body.joint is not None], 2):
            if not _are_neighbours(first, second, poses):
                continue
            here = _similarity(found[first.name]) + _similarity(found[second.name])
            if here - self._similarity_swapped(bodies, first, second, poses) < 2 * self.margin:
                doubtful |= {first.name: second.name, second.name: first.name}
        return doubtful

    def _similarity_swapped(self, bodies: Sequence[Body], first: Body, second: Body, poses: Poses) -> float:
        """The sum of both similarities after the two have been refined at each other's place."""
        reference = poses[bodies[0].name]
        swapped = {
            **poses,
            first.name: _at_place_of(first, second, poses, reference),
            second.name: _at_place_of(second, first, poses, reference),
        }
        pair = tuple(replace(body, joint=None) for body in (first, second))
        views = [
            replace(view, prepared=without_others(view, [b for b in bodies if b.name != second.name], swapped, first))
            for view in self.views
        ]
        swapped |= refine_together(pair, views, swapped).poses
        at = [self.alone.evaluate(body, swapped, RigidTransform.stack([swapped[body.name]])) for body in (first, second)]
        return sum(_similarity(one) for one in at)


def _at_place_of(body: Body, other: Body, poses: Poses, reference: RigidTransform) -> RigidTransform:
    """The pose that puts a body's pivot where the other's is, turned as the reference."""
    place = poses[other.name].apply(other.pivot[None])[0]
    return RigidTransform(reference.rotation, place - reference.rotation @ body.pivot)


def _are_neighbours(first: Body, second: Body, poses: Poses) -> bool:
    sizes = [size_mm(body) for body in (first, second)]
    centres = [poses[body.name].apply(body.pivot[None])[0] for body in (first, second)]
    return float((centres[0] - centres[1]).norm()) < NEIGHBOURS * max(sizes) and max(sizes) < SAME_SIZE * min(sizes)


def _similarity(found: JointRefined) -> float:
    """The similarity of the first hypothesis: the lowest of all views."""
    return min(float(similarities(view)[0]) for view in found.views)
