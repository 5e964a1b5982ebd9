"""A CT that a similarity learns from: its pairs, and the similarity as it sees this CT.

A similarity may learn of several. Its weights know no CT, only what is projected does; so what is learned of several serves a
patient whom it has never seen, or is where that patient's own training begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.learned import AbstractLearnedSimilarity, LearnedProblem
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.training.gradient_direction import Comparison, Directions, directions
from fluoro_reg.training.pairs import PairMaker, Pairs


def reference_for(volume: CTVolume, carm: CarmRange, image_px: int) -> ReferenceView:
    """The middle of a range about the middle of a CT's skeleton.

    Raises:
        InputError: the CT holds no bone.
    """
    aim = default_aim_point(volume)
    return ReferenceView(carm.central_view(aim), aim, carm.camera(image_px))


@dataclass(frozen=True, slots=True)
class PairSubject:
    """`network` learns, `average` is its running average; every subject of a training has the same weights."""

    maker: PairMaker
    network: AbstractLearnedSimilarity
    average: AbstractLearnedSimilarity
    held_back: list[Pairs]

    def directions(self, compared: Comparison, pairs: Pairs, depth_weight: float = 1.0) -> Directions:
        """Cosines of compared pairs of this CT."""
        starts, truth = pairs.starts[compared.starts], pairs.views.camera_from_patient[compared.images]
        return directions(compared.gradients.cpu(), starts, truth, self.network.reference.pivot, depth_weight)

    @torch.no_grad()
    def held_back_directions(self) -> Iterator[Directions]:
        """Of the average, over the held-back pairs."""
        for pairs, compared in self._judged():
            yield self.directions(compared, pairs)

    @torch.no_grad()
    def held_back_falls(self) -> Iterator[torch.Tensor]:
        """How much the average's value falls from each held-back start to its truth."""
        projector, scale = self.average.make_projector(), self.average.scale.cpu()
        for pairs, compared in self._judged():
            problem = LearnedProblem(self.average, projector, self.average.embed_fixed(pairs.views.images))
            yield compared.values.cpu() / scale - problem.values_at(pairs.views.camera_from_patient)

    def _judged(self) -> Iterator[tuple[Pairs, Comparison]]:
        """Each start with one X-ray, so that no pair has anything of another's."""
        projector = self.average.make_projector()
        for pairs in self.held_back:
            own = torch.arange(len(pairs.starts.translation))
            yield (
                pairs,
                Comparison.of(self.average, projector, pairs.starts, self.average.embed_fixed(pairs.views.images), own, own),
            )


@dataclass(frozen=True, slots=True)
class SubjectPairs:
    """Pairs of one subject."""

    subject: PairSubject
    pairs: Pairs
