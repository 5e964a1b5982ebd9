"""Whether a body could as well be at another place nearby, such as that of the next vertebra, wherever its joint expects it.

A joint that is wrong by a vertebra has a body sought at its neighbour's place alone, and vertebrae resemble each other. So a
body that seems to be found is sought once more around where it is, without its joint, in an X-ray in which the bodies that
resemble it are left. It must resemble most what is where it is: if another place explains the image as well, it is ambiguous.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.assessment.evidence import similarities
from fluoro_reg.registration.bodies.alone import AloneSolver
from fluoro_reg.registration.bodies.body import SEARCH_STEP_DEG, Body, size_mm
from fluoro_reg.registration.bodies.scene import Poses, SeenView
from fluoro_reg.registration.bodies.swap import SAME_SIZE
from fluoro_reg.registration.method import SearchOptions

PLACE_MM = 15.0  # a pose further away than this is another place
DISTANCE_MM = 38.0  # of the middle of where places are sought: a lumbar vertebra; less where a body is smaller
NEAREST_MM = 8.0  # the search reaches as near to where the body is, so that it does not find that
COMPARABLE = 0.5  # a place counts if it shows at least this fraction of the pixels that the body shows where it is
_DIRECTIONS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
_SEARCH = SearchOptions(out_of_plane_deg=(0.0, SEARCH_STEP_DEG), in_plane_deg=(-SEARCH_STEP_DEG, 0.0, SEARCH_STEP_DEG), keep=3)


@dataclass(frozen=True, slots=True)
class PlaceCheck:
    """Seeks one body of a scene elsewhere; `margin` is the similarity by which it must be better where it is."""

    bodies: Sequence[Body]
    views: Sequence[SeenView]
    distinct_mm: float
    seed: int
    margin: float

    def another_place_mm(self, body: Body, poses: Poses) -> float | None:
        """How far away a place is that explains every view as well as that of `poses`; None if there is none."""
        away = [self._another_place_mm(view, body, poses) for view in self.views]
        return None if None in away else min(distance for distance in away if distance is not None)

    def _another_place_mm(self, view: SeenView, body: Body, poses: Poses) -> float | None:
        free = replace(body, joint=None)
        shown = [other for other in self.bodies if other.name == body.name or not _resemble(other, body)]
        alone, here = AloneSolver(shown, (view,), self.distinct_mm, self.seed), RigidTransform.stack([poses[body.name]])
        distance = min(DISTANCE_MM, size_mm(body))
        search = replace(_SEARCH, shift_mm=distance - NEAREST_MM)
        starts = self._places(view, body, poses, distance)
        found = alone.find_elsewhere(body, poses, view, starts, search)
        evaluated = alone.evaluate(free, poses, RigidTransform.cat([here, found]))
        seen = evaluated.views[0]
        similarity, pixels = similarities(seen), (seen.linearised.weight > 0).flatten(1).sum(-1)
        apart = body.metric.distances(evaluated.poses, poses[body.name])
        as_good = (similarity > similarity[0] - self.margin) & (pixels >= COMPARABLE * pixels[0]) & (apart > PLACE_MM)
        return float(apart[torch.argmax(torch.where(as_good, similarity, -1.0))]) if bool(as_good.any()) else None

    def _places(self, view: SeenView, body: Body, poses: Poses, distance_mm: float) -> list[RigidTransform]:
        """`camera_from_patient` of the body beside where it is, in four directions of the image.

        It is turned as the reference is: at a wrong place, it has turned to fit it.
        """
        centre = (view.camera_from_reference @ poses[body.name]).apply(body.pivot[None])[0]
        turned = (view.camera_from_reference @ poses[self.bodies[0].name]).rotation
        places = [centre + distance_mm * torch.tensor([*direction, 0.0], dtype=torch.float64) for direction in _DIRECTIONS]
        return [RigidTransform(turned, place - turned @ body.pivot) for place in places]


def _resemble(first: Body, second: Body) -> bool:
    sizes = (size_mm(first), size_mm(second))
    return max(sizes) < SAME_SIZE * min(sizes)
