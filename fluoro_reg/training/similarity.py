"""`SimilarityTraining`: from a CT and a range of views to a similarity whose gradient leads to the true pose.

The loss is that of the gradient's direction (`gradient_direction`), with a share of the error of the distance that values tell
(`Calibration`), of every pose of a batch to every X-ray of it: all but free, and it takes no second derivative. Monitored are
cosines over pairs that training never sees. When it is over, values are scaled by how much they fall from start to truth on
average over those pairs, so that who follows them knows what a plateau is.
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
    Calibration,
    LearnedProblem,
    Projector,
    ProSTOptions,
    SphericalOptions,
    save_similarity,
)
from fluoro_reg.regressor import ReferenceView
from fluoro_reg.training.draws import seeded_generator
from fluoro_reg.training.gradient_direction import Directions, directions, squared_geodesic
from fluoro_reg.training.loop import AbstractTraining
from fluoro_reg.training.options import LoopOptions
from fluoro_reg.training.pairs import PairOptions, Pairs, PoseSpread, make_pairs
from fluoro_reg.training.samples import SampleMaker
from fluoro_reg.training.state import AbstractRecord, new_state
from fluoro_reg.training.team import Team

LENGTH_MM = 100.0  # a shift of this much counts as a turn of a rad: a mere unit, since turns and shifts are judged apart
_BONE_SAMPLES = 4000
_HELD_BACK = 2**31  # seeds from here on are validation's; users' seeds end below


@dataclass(frozen=True, slots=True)
class SimilarityTrainingOptions(LoopOptions):
    """Of a learned similarity."""

    batch: int = option(8, "pairs of a start and an X-ray in a step", minimum=1, maximum=4096)
    learning_rate: float = option(3e-3, "the highest, after warm-up", minimum=1e-7, maximum=1)
    average: float = option(0.98, "share of the running average of weights that a step keeps", minimum=0, maximum=0.99999)
    validation_images: int = option(64, "number of held-back pairs", minimum=8, maximum=100_000)
    value_loss: float = option(
        0.1, "weight of the error, per mm, of the distance of poses that values tell; 0: directions alone", minimum=0
    )
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
    _spread: PoseSpread = field(init=False)

    def __post_init__(self) -> None:
        self.team, options = Team.joined(self.device), self.options
        aim = aim_point(self.volume, bone_points(self.volume, _BONE_SAMPLES, seeded_generator(0, 0)))
        network_options = getattr(options, options.kind)
        reference = ReferenceView(self.carm.middle(aim), aim, self.carm.camera(network_options.image_px))
        self._spread = PoseSpread(self.carm, options.pairs)
        self.maker = SampleMaker(self.volume, self._spread, reference, options.degradations, self.device)
        chunks = range(0, options.validation_images, options.batch)
        self.held_back = [self._pairs(_HELD_BACK + options.seed, number) for number in range(len(chunks))]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = LEARNED[options.kind](network_options, reference, self.volume)
        self.state = new_state(network.to(self.device), SimilarityRecord, options.learning_rate, options.weight_decay)

    def batch(self, number: int) -> Pairs:
        return self._pairs(self.options.seed, number)

    def backward(self, batch: Pairs) -> Tensor:
        network = self.state.network
        problem = self._problem(network, network.projector(), batch)
        loss = self._directions(problem, batch).loss()
        if self.options.value_loss:
            errors = self._value_errors(problem, batch, network.calibration)
            loss = loss.to(errors.device) + self.options.value_loss * errors.mean()
        loss.backward()
        self.team.average_gradients(network.parameters())
        torch.nn.utils.clip_grad_norm_(network.parameters(), self.options.clip)
        return loss

    def validate(self, loss: float) -> SimilarityRecord:
        network = self.state.average
        with torch.no_grad():
            projector = network.projector()
        found = [self._directions(self._problem(network, projector, pairs), pairs) for pairs in self.held_back]
        rotation = torch.cat([part.rotation.detach() for part in found])
        translation = torch.cat([part.translation.detach() for part in found])
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
            problem = self._problem(network, projector, pairs)
            falls.append(problem.at(pairs.starts) - problem.at(pairs.views.camera_from_patient))
        fall = float(torch.cat(falls).mean())
        if not fall > 0:
            raise InputError("nothing was learned: the value does not fall from a start to the true pose; train for longer")
        return fall

    def _pairs(self, seed: int, number: int) -> Pairs:
        return make_pairs(self.maker, self._spread, self.options.batch, seed, number)

    def _directions(self, problem: LearnedProblem, pairs: Pairs) -> Directions:
        truth, pivot = pairs.views.camera_from_patient, self.maker.reference.pivot
        return directions(problem.at, pairs.starts, truth, pivot, LENGTH_MM)

    def _value_errors(self, problem: LearnedProblem, pairs: Pairs, calibration: Calibration) -> Tensor:
        """Of all starts and all true poses with every X-ray of the batch, mm."""
        truth, pivot = pairs.views.camera_from_patient, self.maker.reference.pivot
        poses = RigidTransform.cat([pairs.starts, truth])
        rows, columns = torch.cartesian_prod(torch.arange(len(poses.translation)), torch.arange(len(truth.translation))).T
        distance_mm = LENGTH_MM * squared_geodesic(poses[rows], truth[columns], pivot, LENGTH_MM).sqrt()
        values = problem.table(poses).to(calibration.log_per_mm)
        return calibration.error(values, distance_mm.to(values).reshape(values.shape))

    def _problem(self, network: AbstractLearnedSimilarity, projector: Projector, pairs: Pairs) -> LearnedProblem:
        return network.problem(projector, pairs.views.images, pairs.views.mask)
