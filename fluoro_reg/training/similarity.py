"""`SimilarityTraining`: from a CT and a range of views to a similarity whose gradient leads to the true pose.

The loss is that of the gradient's direction (`gradient_direction`), with a share of the error of the distance that values tell
(`Calibration`), of starts from X-rays and of X-rays from each other: all but free, and it takes no second derivative. A step
looks at many X-rays and from few starts: each start with each X-ray is a pair. A mm of depth changes an image by a tenth of
what a mm across does, so directions that are learned in mm leave depth until last: hence `depth_weight`.

Monitored are cosines over pairs that training never sees. When it is over, values are scaled by how much they fall from start
to truth on average over those pairs, so that who follows them knows what a plateau is.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fluoro_reg.config import option, section
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.views import aim_point, bone_points
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import (
    LEARNED,
    AbstractLearnedSimilarity,
    LearnedProblem,
    Projector,
    ProSTOptions,
    SphericalOptions,
    save_similarity,
)
from fluoro_reg.regressor import ReferenceView
from fluoro_reg.training.draws import seeded_generator
from fluoro_reg.training.gradient_direction import LENGTH_MM, Comparison, Directions, directions, squared_geodesic
from fluoro_reg.training.loop import AbstractTraining
from fluoro_reg.training.options import LoopOptions
from fluoro_reg.training.pairs import PairOptions, Pairs, make_pairs
from fluoro_reg.training.samples import SampleMaker
from fluoro_reg.training.state import AbstractRecord, new_state
from fluoro_reg.training.team import Team

_BONE_SAMPLES = 4000
_CHUNK = 16  # held-back pairs at a time
_HELD_BACK = 2**31  # seeds from here on are validation's; users' seeds end below


@dataclass(frozen=True, slots=True)
class SimilarityTrainingOptions(LoopOptions):
    """Of a learned similarity."""

    batch: int = option(32, "X-rays in a step", minimum=2, maximum=4096)
    starts: int = option(4, "starts in a step, each paired with every X-ray", minimum=1, maximum=4096)
    learning_rate: float = option(3e-3, "the highest, after warm-up", minimum=1e-7, maximum=1)
    average: float = option(0.98, "share of the running average of weights that a step keeps", minimum=0, maximum=0.99999)
    validation_images: int = option(64, "number of held-back pairs", minimum=8, maximum=100_000)
    value_loss: float = option(
        0.1, "weight of the error, per mm, of the distance of poses that values tell; 0: directions alone", minimum=0
    )
    direction_loss: float = option(1.0, "weight of the loss of directions; 0: values alone", minimum=0)
    depth_weight: float = option(
        3.0, "length of depth's unit, of that in the image plane, in the loss of directions", minimum=0.1, maximum=100
    )
    volume_every: int = option(8, "the projected volume learns in each so manieth step", minimum=1)
    kind: str = option("prost", "which similarity", choices=tuple(LEARNED))
    prost: ProSTOptions = section(ProSTOptions)
    spherical: SphericalOptions = section(SphericalOptions)
    pairs: PairOptions = section(PairOptions)


@dataclass(frozen=True, slots=True)
class SimilarityRecord(AbstractRecord):
    """Over held-back pairs: mean cosines of the gradients, and the share of pairs where both lead towards the truth."""

    rotation_cosine: float
    translation_cosine: float
    towards_truth: float

    @property
    def error(self) -> float:
        return 4 - 2 * self.rotation_cosine - 2 * self.translation_cosine


@dataclass(slots=True)
class SimilarityTraining(AbstractTraining[AbstractLearnedSimilarity, SimilarityRecord, Pairs]):
    """One training; `run` may be called once."""

    options: SimilarityTrainingOptions
    maker: SampleMaker = field(init=False)
    held_back: list[Pairs] = field(init=False)

    def __post_init__(self) -> None:
        self.team, options = Team.joined(self.device), self.options
        aim = aim_point(self.volume, bone_points(self.volume, _BONE_SAMPLES, seeded_generator(0, 0)))
        network_options = getattr(options, options.kind)
        reference = ReferenceView(self.carm.middle(aim), aim, self.carm.camera(network_options.image_px))
        self.maker = SampleMaker(self.volume, self.carm, reference, options.degradations, self.device)
        count = options.validation_images
        sizes = [min(_CHUNK, count - begin) for begin in range(0, count, _CHUNK)]
        self.held_back = [self._pairs(_HELD_BACK + options.seed, number, n, n) for number, n in enumerate(sizes)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = LEARNED[options.kind](network_options, reference, self.volume)
        self.state = new_state(network.to(self.device), SimilarityRecord, options.learning_rate, options.weight_decay)

    def batch(self, number: int) -> Pairs:
        return self._pairs(self.options.seed, number, self.options.batch, self.options.starts)

    def backward(self, batch: Pairs) -> Tensor:
        network, options = self.state.network, self.options
        with torch.set_grad_enabled(self.state.step % options.volume_every == 0):
            projector = network.projector()
        fixed = network.fixed(batch.views.images)
        compared = Comparison.of_all(network, projector, batch.starts, fixed)
        loss = options.direction_loss * self._directions(compared, batch, options.depth_weight).loss()
        if options.value_loss:
            loss = loss + options.value_loss * self._value_errors(compared, fixed, batch)
        loss.backward()
        self.team.average_gradients(network.parameters())
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        return loss

    def validate(self, loss: float) -> SimilarityRecord:
        network = self.state.average
        with torch.no_grad():
            projector = network.projector()
            found = [self._directions(self._own_pairs(network, projector, pairs), pairs) for pairs in self.held_back]
        rotation, translation = torch.cat([part.rotation for part in found]), torch.cat([part.translation for part in found])
        towards = ((rotation > 0) & (translation > 0)).double().mean()
        means = float(rotation.mean()), float(translation.mean()), float(towards)
        return SimilarityRecord(self.state.step, self.state.elapsed_s, loss, *means)

    def save(self, out: Path) -> None:
        network = self.state.average
        network.scale.fill_(self.mean_fall(network))
        save_similarity(out, network, self.volume.fingerprint, self.notes())

    @torch.no_grad()
    def mean_fall(self, network: AbstractLearnedSimilarity) -> float:
        """How much the value falls from start to truth, on average over the held-back pairs.

        Raises:
            InputError: it does not fall, so nothing could follow it.
        """
        projector, falls = network.projector(), []
        for pairs in self.held_back:
            truth = LearnedProblem(network, projector, network.fixed(pairs.views.images)).at(pairs.views.camera_from_patient)
            falls.append(self._own_pairs(network, projector, pairs).values.cpu() / network.scale.cpu() - truth)
        fall = float(torch.cat(falls).mean())
        if not fall > 0:
            raise InputError("nothing was learned: the value does not fall from a start to the true pose; train for longer")
        return fall

    def _pairs(self, seed: int, number: int, n_views: int, n_starts: int) -> Pairs:
        return make_pairs(self.maker, self.carm, self.options.pairs, n_views, n_starts, seed, number)

    @staticmethod
    def _own_pairs(network: AbstractLearnedSimilarity, projector: Projector, pairs: Pairs) -> Comparison:
        """Each start with one X-ray, so that no pair has anything of another's."""
        own = torch.arange(len(pairs.starts.translation))
        return Comparison.of(network, projector, pairs.starts, network.fixed(pairs.views.images), own, own)

    def _directions(self, compared: Comparison, pairs: Pairs, depth_weight: float = 1.0) -> Directions:
        starts, truth = pairs.starts[compared.starts], pairs.views.camera_from_patient[compared.images]
        return directions(compared.gradients.cpu(), starts, truth, self.maker.reference.pivot, depth_weight)

    def _value_errors(self, compared: Comparison, fixed: Tensor, pairs: Pairs) -> Tensor:
        """Of starts from X-rays, and of X-rays from each other; mean, mm."""
        network, truth = self.state.network, pairs.views.camera_from_patient
        ones, others = torch.triu_indices(len(fixed), len(fixed), 1)
        between = network.metric.residuals(fixed[ones], fixed[others]).square().sum(-1)
        errors = [
            network.calibration.error(values, self._distance_mm(one, other).to(values)).mean()
            for values, one, other in (
                (compared.values, pairs.starts[compared.starts], truth[compared.images]),
                (between, truth[ones], truth[others]),
            )
        ]
        return torch.stack(errors).sum().cpu()

    def _distance_mm(self, one: RigidTransform, other: RigidTransform) -> Tensor:
        return LENGTH_MM * squared_geodesic(one, other, self.maker.reference.pivot).sqrt()
