"""`SimilarityTraining`: training of a similarity whose gradient leads to the true pose, on a CT and a range of views.

The loss is that of the gradient's direction (`gradient_direction`) plus a weighted error of the distances that the values
predict (`Calibration`), both of starts from X-rays and of X-rays from each other. The second term costs little and needs no
second derivative. A step uses many X-rays and few starts, and each start is paired with each X-ray. Moving by 1 mm in depth
changes an image by a tenth of what 1 mm in the image plane does, so directions in mm would be learned in depth last; hence
`depth_weight`.

Validation measures the cosines over its own pairs, with X-rays of the simulator. At the end the values are scaled by their mean
decrease from start to true pose over those pairs, so that optimisers can recognise a plateau.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fluoro_reg.config import option, section
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import (
    LEARNED_SIMILARITIES,
    AbstractLearnedSimilarity,
    ProSTOptions,
    SphericalOptions,
    load_pretrained_similarity,
    save_similarity,
)
from fluoro_reg.training.distributed import ProcessGroup
from fluoro_reg.training.gradient_direction import LENGTH_MM, Comparison, squared_geodesic
from fluoro_reg.training.loop import AbstractTraining
from fluoro_reg.training.options import LoopOptions
from fluoro_reg.training.pair_subject import PairSubject, SubjectPairs, reference_view
from fluoro_reg.training.pairs import PairMaker, PairOptions, Pairs
from fluoro_reg.training.samples import SampleMaker
from fluoro_reg.training.simulated_xrays import XraysForValidation
from fluoro_reg.training.state import AbstractRecord, new_state

_CHUNK = 16  # validation pairs at a time
_MAXIMUM_CHUNKS = 2**20  # for each CT
_VALIDATION_SEED = 2**31  # validation uses seeds from here on; users' seeds are below


@dataclass(frozen=True, slots=True)
class SimilarityTrainingOptions(LoopOptions):
    """Settings of the training of a learned similarity."""

    batch: int = option(32, "X-rays in a step", minimum=2, maximum=4096)
    starts: int = option(4, "starts in a step, each paired with every X-ray", minimum=1, maximum=4096)
    learning_rate: float = option(3e-3, "maximum learning rate, after warm-up", minimum=1e-7, maximum=1)
    average: float = option(0.98, "decay of the running average of the weights, per step", minimum=0, maximum=0.99999)
    validation_images: int = option(64, "number of validation pairs", minimum=8, maximum=100_000)
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

    def __post_init__(self) -> None:
        self.processes, options = ProcessGroup.join(self.device), self.options
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
            validation_pairs = self._make_validation_pairs(maker, len(subjects), len(volumes))
            subjects.append(PairSubject(maker, network, average, validation_pairs))
        self.subjects = tuple(subjects)

    def batch(self, number: int) -> SubjectPairs:
        subject, options = self.subjects[number % len(self.subjects)], self.options
        return SubjectPairs(subject, subject.maker.batch(options.batch, options.starts, options.seed, number))

    def backward(self, batch: SubjectPairs) -> Tensor:
        subject, pairs, options = batch.subject, batch.pairs, self.options
        network = subject.network
        with torch.set_grad_enabled(self.state.step // len(self.subjects) % options.volume_every == 0):
            projector = network.make_projector()
        fixed = network.embed_fixed(pairs.views.images)
        compared = Comparison.of_all_pairs(network, projector, pairs.starts, fixed)
        loss = torch.zeros(())
        if options.direction_loss:
            loss = loss + options.direction_loss * subject.direction_cosines(compared, pairs, options.depth_weight).loss()
        if options.value_loss:
            loss = loss + options.value_loss * _distance_loss(subject, compared, fixed, pairs)
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

    def _make_validation_pairs(self, maker: PairMaker, subject: int, n_subjects: int) -> list[Pairs]:
        """Return one CT's part of the validation pairs; with `around: range`, every pair is sampled around its own view."""
        count, seed = max(1, self.options.validation_images // n_subjects), _VALIDATION_SEED + self.options.seed
        chunk = _CHUNK if self.options.pairs.around == "middle" else 1
        sizes = [min(chunk, count - begin) for begin in range(0, count, chunk)]
        xrays = XraysForValidation(maker.samples.volume, maker.samples.reference)
        return [maker.batch(n, n, seed, subject * _MAXIMUM_CHUNKS + number, xrays) for number, n in enumerate(sizes)]


def _distance_loss(subject: PairSubject, compared: Comparison, fixed: Tensor, pairs: Pairs) -> Tensor:
    """Return the mean errors of predicted distances, of starts from X-rays plus of X-rays from each other, in mm."""
    network, truth, pivot = subject.network, pairs.views.camera_from_patient, subject.network.reference.pivot
    first, second = torch.triu_indices(len(fixed), len(fixed), 1)
    between = network.metric.residuals(fixed[first], fixed[second]).square().sum(-1)

    def loss_mm(values: Tensor, one: RigidTransform, other: RigidTransform) -> Tensor:
        distance_mm = LENGTH_MM * squared_geodesic(one, other, pivot).sqrt()
        return network.calibration.loss_mm(values, distance_mm.to(values)).mean()

    of_starts = loss_mm(compared.values, pairs.starts[compared.starts], truth[compared.images])
    return (of_starts + loss_mm(between, truth[first], truth[second])).cpu()
