"""`SimilarityTraining`: training of a similarity whose gradient leads to the true pose, on a CT and a range of views.

The loss is that of the gradient's direction (`gradient_direction`) plus a weighted error of the distances that the values
predict (`Calibration`), both of starts from X-rays and of X-rays from each other. The second term costs little and needs no
second derivative. A step uses many X-rays and few starts; around each of its views, each start is paired with each X-ray.
Moving by 1 mm in depth changes an image by a tenth of what 1 mm in the image plane does, so directions in mm would be learned
in depth last; hence `depth_weight`.

Validation measures the cosines over its own pairs, with X-rays of the simulator. At the end the values are scaled by their mean
decrease from start to true pose over those pairs, so that optimisers can recognise a plateau.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fluoro_reg.config import option, section
from fluoro_reg.errors import InputError
from fluoro_reg.learned import (
    LEARNED_SIMILARITIES,
    AbstractLearnedSimilarity,
    ProSTOptions,
    SphericalOptions,
    load_pretrained_similarity,
    save_similarity,
)
from fluoro_reg.training.gradient_direction import Comparison, cosines_between
from fluoro_reg.training.loop import AbstractTraining
from fluoro_reg.training.options import LoopOptions
from fluoro_reg.training.pair_subject import PairSubject, SubjectPairs, reference_view
from fluoro_reg.training.pairs import PairMaker, PairOptions, Pairs
from fluoro_reg.training.samples import SampleMaker
from fluoro_reg.training.simulated_xrays import XraysForValidation
from fluoro_reg.training.state import AbstractRecord, new_state

_VALIDATION_SEED = 2**31  # validation uses seeds from here on; users' seeds are below


@dataclass(frozen=True, slots=True)
class SimilarityTrainingOptions(LoopOptions):
    """Settings of the training of a learned similarity."""

    batch: int = option(32, "X-rays in a step", minimum=2, maximum=4096)
    starts: int = option(4, "starts in a step, each paired with every X-ray of its view", minimum=1, maximum=4096)
    views: int = option(
        1, "views of the range in a step, each with an equal part of its X-rays and starts", minimum=1, maximum=1024
    )
    learning_rate: float = option(3e-3, "maximum learning rate, after warm-up", minimum=1e-7, maximum=1)
    average: float = option(0.98, "decay of the running average of the weights, per step", minimum=0, maximum=0.99999)
    validation_images: int = option(64, "number of validation pairs", minimum=8, maximum=100_000)
    patience: int = option(
        12, "stop after this many validations without improvement; the first ones improve little", minimum=1, maximum=1000
    )
    value_loss: float = option(
        0.1, "weight of the error, per mm, of the distances that values predict; 0: directions alone", minimum=0
    )
    direction_loss: float = option(1.0, "weight of the loss of the gradient's direction; 0: values alone", minimum=0)
    depth_weight: float = option(
        3.0, "unit of depth in the loss of directions, relative to the image plane", minimum=0.1, maximum=100
    )
    volume_every: int = option(8, "the network of the projected volume is trained in every n-th step", minimum=1)
    kind: str = option("prost", "the similarity to train", choices=tuple(LEARNED_SIMILARITIES))
    prost: ProSTOptions = section(ProSTOptions)
    spherical: SphericalOptions = section(SphericalOptions)
    pairs: PairOptions = section(PairOptions)

    def __post_init__(self) -> None:
        if not (self.direction_loss or self.value_loss):
            raise InputError("with direction_loss and value_loss both 0 nothing is trained; give a weight to one of them")
        if self.batch % self.views or self.starts % self.views or self.batch < 2 * self.views:
            raise InputError(
                f"the {self.views} views of a step need equal parts of its {self.batch} X-rays, two or more each, and of its "
                f"{self.starts} starts; give multiples of views"
            )


@dataclass(frozen=True, slots=True)
class SimilarityRecord(AbstractRecord):
    """Over validation pairs: mean cosines of the gradients, and the fraction of pairs where both lead towards the truth."""

    rotation_cosine: float
    translation_cosine: float
    towards_truth: float

    @property
    def error(self) -> float:
        return 4 - 2 * self.rotation_cosine - 2 * self.translation_cosine


@dataclass(slots=True)
class SimilarityTraining(AbstractTraining[AbstractLearnedSimilarity, SimilarityRecord, SubjectPairs]):
    """The training of a learned similarity; `run` may be called once."""

    options: SimilarityTrainingOptions
    subjects: tuple[PairSubject, ...] = field(init=False)

    def prepare(self) -> None:
        options = self.options
        network_options = getattr(options, options.kind)
        volumes = (self.volume, *self.further_volumes)
        references = [reference_view(volume, self.carm, network_options.image_px) for volume in volumes]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = LEARNED_SIMILARITIES[options.kind](network_options, references[0], self.volume)
        if self.pretrained is not None:
            load_pretrained_similarity(self.pretrained, network)
        network.seen = options.pairs.seen(self.carm)
        self.state = new_state(network.to(self.device), SimilarityRecord, options.learning_rate, options.weight_decay)
        subjects: list[PairSubject] = []
        for volume, reference in zip(volumes, references, strict=True):
            samples = SampleMaker(volume, self.carm, reference, options.degradations, self.device)
            maker = PairMaker(samples, self.carm, options.pairs)
            network, average = self.state.network, self.state.average
            if volume is not self.volume:
                network, average = network.for_volume(volume, reference), average.for_volume(volume, reference)
            subjects.append(
                PairSubject(maker, network, average, self._start_validation_pairs(maker, len(subjects), len(volumes)))
            )
        self.subjects = tuple(subjects)

    def batches(self, number: int) -> list[SubjectPairs]:
        options, subject = self.options, self.subjects[number % len(self.subjects)]
        turn = number // self.processes.size // len(self.subjects)
        n_views, n_starts = options.batch // options.views, options.starts // options.views
        several = subject.maker.batch(n_views, n_starts, options.seed, number, options.ahead * options.views)
        directions = several.directions(subject.network.reference.pivot, self.device).split(options.ahead)
        steps = range(turn * options.ahead, (turn + 1) * options.ahead)
        return [SubjectPairs(subject, *parts) for parts in zip(several.split(options.ahead), directions, steps, strict=True)]

    def backward(self, batch: SubjectPairs) -> Tensor:
        network, pairs, options = batch.subject.network, batch.pairs, self.options
        with torch.set_grad_enabled(batch.own_step % options.volume_every == 0):
            projector = network.make_projector()
        fixed = network.embed_fixed(pairs.images)
        compared = Comparison.of_pairs(network, projector, pairs.starts, fixed, *pairs.all_pairs(fixed.device))
        loss = torch.zeros((), device=fixed.device)
        if options.direction_loss:
            expected, rotation = batch.directions.gradients, batch.directions.camera_from_patient
            cosines = cosines_between(compared.gradients, expected, rotation, options.depth_weight)
            loss = loss + options.direction_loss * cosines.loss()
        if options.value_loss:
            loss = loss + options.value_loss * _distance_loss(network, compared, fixed, batch)
        loss.backward()
        self.processes.average_gradients(network.parameters())
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        return loss

    def validate(self, loss: float) -> SimilarityRecord:
        parts = [part for subject in self.subjects for part in subject.validation_cosines()]
        rotation, translation = torch.cat([part.rotation for part in parts]), torch.cat([part.translation for part in parts])
        towards = ((rotation > 0) & (translation > 0)).double().mean()
        means = float(rotation.mean()), float(translation.mean()), float(towards)
        return SimilarityRecord(self.state.step, self.state.elapsed_s, loss, *means)

    def save(self, out: Path) -> None:
        self.state.average.scale.mul_(self.mean_decrease())
        save_similarity(out, self.state.average, self.fingerprint, self.notes())

    def mean_decrease(self) -> float:
        """Return the mean decrease of the running average's value from start to true pose over the validation pairs.

        Raises:
            InputError: the value does not decrease, so an optimiser could not follow it.
        """
        decrease = float(torch.cat([part for subject in self.subjects for part in subject.validation_decreases()]).mean())
        if not decrease > 0:
            raise InputError(
                "nothing was learned: the value does not decrease from the starts to the true poses; train for longer"
            )
        return decrease

    def _start_validation_pairs(self, maker: PairMaker, subject: int, n_subjects: int) -> Callable[[], Pairs]:
        """Start to make one CT's part of the validation pairs, every pair around its own view."""
        count, seed = max(1, self.options.validation_images // n_subjects), _VALIDATION_SEED + self.options.seed
        xrays = XraysForValidation(maker.samples.volume, maker.samples.reference)
        return maker.validation_pairs(count, seed, subject, xrays, self.threads)


def _distance_loss(network: AbstractLearnedSimilarity, compared: Comparison, fixed: Tensor, batch: SubjectPairs) -> Tensor:
    """Return the mean errors of predicted distances, of starts from X-rays plus of X-rays from each other, in mm."""
    first, second = batch.pairs.image_pairs(fixed.device)
    between = network.metric.residuals(fixed[first], fixed[second]).square().sum(-1)
    of_starts = network.calibration.loss_mm(compared.values, batch.directions.distance_mm)
    return of_starts.mean() + network.calibration.loss_mm(between, batch.directions.between_mm).mean()
