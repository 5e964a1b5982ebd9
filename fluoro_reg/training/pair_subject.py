"""A CT in the training of a similarity: its pairs, and the similarity of this CT.

A similarity can be trained on several CTs. Its weights do not depend on the CT, only its projector does. So weights trained on
several CTs can be used for a patient they were not trained on, or as pretrained weights of that patient's own training.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.learned import AbstractLearnedSimilarity, LearnedProblem
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.training.gradient_direction import Comparison, DirectionCosines, direction_cosines
from fluoro_reg.training.pairs import Directions, PairMaker, Pairs

_CHUNK = 64  # validation pairs at a time


def reference_view(volume: CTVolume, carm: CarmRange, image_px: int) -> ReferenceView:
    """Return the reference view at the middle of a range of views, about the default aim point of a CT.

    Raises:
        InputError: the CT holds no bone.
    """
    aim = default_aim_point(volume)
    return ReferenceView(carm.central_view(aim), aim, carm.camera(image_px))


@dataclass(slots=True)
class PairSubject:
    """A CT with its pairs, the network and its running average; the subjects of a training share the weights of both.

    `await_validation_pairs` returns them once their X-rays are made.
    """

    maker: PairMaker
    network: AbstractLearnedSimilarity
    average: AbstractLearnedSimilarity
    await_validation_pairs: Callable[[], Pairs]
    _validation_pairs: Pairs | None = None

    @property
    def validation_pairs(self) -> Pairs:
        """One start with one X-ray in each group, so that the pairs are independent; waits until they are made."""
        if self._validation_pairs is None:
            self._validation_pairs = self.await_validation_pairs()
        return self._validation_pairs

    @torch.no_grad()
    def validation_cosines(self) -> Iterator[DirectionCosines]:
        """Yield the cosines of the running average over the validation pairs."""
        for pairs, compared in self._validation_comparisons():
            yield direction_cosines(compared.gradients.cpu(), pairs.starts, pairs.truth, self.network.reference.pivot)

    @torch.no_grad()
    def validation_decreases(self) -> Iterator[torch.Tensor]:
        """Yield how much the running average's value decreases from each validation start to the true pose."""
        projector, scale = self.average.make_projector(), self.average.scale.cpu()
        for pairs, compared in self._validation_comparisons():
            problem = LearnedProblem(self.average, projector, self.average.embed_fixed(pairs.images))
            yield compared.values.cpu() / scale - problem.values_at(pairs.truth)

    def _validation_comparisons(self) -> Iterator[tuple[Pairs, Comparison]]:
        projector, every = self.average.make_projector(), self.validation_pairs
        for first in range(0, every.groups, _CHUNK):
            part = slice(first, first + _CHUNK)
            pairs = Pairs(every.images[part], every.truth[part], every.starts[part], len(every.images[part]))
            own = torch.arange(pairs.groups)
            fixed = self.average.embed_fixed(pairs.images)
            yield pairs, Comparison.of_pairs(self.average, projector, pairs.starts, fixed, own, own)


@dataclass(frozen=True, slots=True)
class SubjectPairs:
    """A batch of pairs of one subject, and what they are compared with; `own_step` counts its batches in one process."""

    subject: PairSubject
    pairs: Pairs
    directions: Directions
    own_step: int
