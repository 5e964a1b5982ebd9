"""A CT in the training of a similarity: its pairs, and the similarity of this CT.

A similarity can be trained on several CTs. Its weights do not depend on the CT, only its projector does. So weights trained on
several CTs can be used for a patient they were not trained on, or as pretrained weights of that patient's own training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.learned import AbstractLearnedSimilarity, LearnedProblem
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.training.gradient_direction import Comparison, DirectionCosines, direction_cosines
from fluoro_reg.training.pairs import PairMaker, Pairs


def reference_view(volume: CTVolume, carm: CarmRange, image_px: int) -> ReferenceView:
    """Return the reference view at the middle of a range of views, about the default aim point of a CT.

    Raises:
        InputError: the CT holds no bone.
    """
    aim = default_aim_point(volume)
    return ReferenceView(carm.central_view(aim), aim, carm.camera(image_px))


@dataclass(frozen=True, slots=True)
class PairSubject:
    """A CT with its pairs, the network and its running average; the subjects of a training share the weights of both."""

    maker: PairMaker
    network: AbstractLearnedSimilarity
    average: AbstractLearnedSimilarity
    validation_pairs: list[Pairs]

    def direction_cosines(self, compared: Comparison, pairs: Pairs, depth_weight: float = 1.0) -> DirectionCosines:
        """Return the cosines of compared pairs of this CT."""
        starts, truth = pairs.starts[compared.starts], pairs.views.camera_from_patient[compared.images]
        return direction_cosines(compared.gradients.cpu(), starts, truth, self.network.reference.pivot, depth_weight)

    @torch.no_grad()
    def validation_cosines(self) -> Iterator[DirectionCosines]:
        """Yield the cosines of the running average over the validation pairs."""
        for pairs, compared in self._validation_comparisons():
            yield self.direction_cosines(compared, pairs)

    @torch.no_grad()
    def validation_decreases(self) -> Iterator[torch.Tensor]:
        """Yield how much the running average's value decreases from each validation start to the true pose."""
        projector, scale = self.average.make_projector(), self.average.scale.cpu()
        for pairs, compared in self._validation_comparisons():
            problem = LearnedProblem(self.average, projector, self.average.embed_fixed(pairs.views.images))
            yield compared.values.cpu() / scale - problem.values_at(pairs.views.camera_from_patient)

    def _validation_comparisons(self) -> Iterator[tuple[Pairs, Comparison]]:
        """Yield comparisons of each start with its own X-ray only, so that the pairs are independent."""
        projector = self.average.make_projector()
        for pairs in self.validation_pairs:
            own = torch.arange(len(pairs.starts.translation))
            yield (
                pairs,
                Comparison.of_pairs(
                    self.average, projector, pairs.starts, self.average.embed_fixed(pairs.views.images), own, own
                ),
            )


@dataclass(frozen=True, slots=True)
class SubjectPairs:
    """A batch of pairs of one subject."""

    subject: PairSubject
    pairs: Pairs
