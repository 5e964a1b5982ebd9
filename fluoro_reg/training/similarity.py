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
from fluoro_reg.training.pair_subject import PairSubject, SubjectPairs, reference_for
from fluoro_reg.training.pairs import PairMaker, PairOptions, Pairs
from fluoro_reg.training.samples import SampleMaker
from fluoro_reg.training.state import AbstractRecord, new_state

_CHUNK = 16  # held-back pairs at a time
_MAXIMUM_CHUNKS = 2**20  # of one CT
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
    kind: str = option("prost", "which similarity", choices=tuple(LEARNED_SIMILARITIES))
    prost: ProSTOptions = section(ProSTOptions)
    spherical: SphericalOptions = section(SphericalOptions)
    pairs: PairOptions = section(PairOptions)

    def __post_init__(self) -> None:
        if not (self.direction_loss or self.value_loss):
            raise InputError("with direction_loss and value_loss both 0 nothing is taught; give one of them")


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
class SimilarityTraining(AbstractTraining[AbstractLearnedSimilarity, SimilarityRecord, SubjectPairs]):
    """One training; `run` may be called once. With `further` CTs, steps are about each in turn; `pretrained` names weights to
    begin from.
    """

    options: SimilarityTrainingOptions
    subjects: tuple[PairSubject, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.processes, options = ProcessGroup.joined(self.device), self.options
        network_options = getattr(options, options.kind)
        volumes = (self.volume, *self.further)
        references = [reference_for(volume, self.carm, network_options.image_px) for volume in volumes]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = LEARNED_SIMILARITIES[options.kind](network_options, references[0], self.volume)
        if self.pretrained is not None:
            load_pretrained_similarity(self.pretrained, network)
        self.state = new_state(network.to(self.device), SimilarityRecord, options.learning_rate, options.weight_decay)
        subjects: list[PairSubject] = []
        for volume, reference in zip(volumes, references, strict=True):
            samples = SampleMaker(volume, self.carm, reference, options.degradations, self.device)
            maker = PairMaker(samples, self.carm, options.pairs)
            network, average = self.state.network, self.state.average
            if volume is not self.volume:
                network, average = network.for_volume(volume, reference), average.for_volume(volume, reference)
            subjects.append(PairSubject(maker, network, average, self._held_back(maker, len(subjects), len(volumes))))
        self.subjects = tuple(subjects)

    def batch(self, number: int) -> SubjectPairs:
        subject, options = self.subjects[number % len(self.subjects)], self.options
        return SubjectPairs(subject, subject.maker.pairs(options.batch, options.starts, options.seed, number))

    def backward(self, batch: SubjectPairs) -> Tensor:
        subject, pairs, options = batch.subject, batch.pairs, self.options
        network = subject.network
        with torch.set_grad_enabled(self.state.step // len(self.subjects) % options.volume_every == 0):
            projector = network.make_projector()
        fixed = network.embed_fixed(pairs.views.images)
        compared = Comparison.of_all(network, projector, pairs.starts, fixed)
        loss = torch.zeros(())
        if options.direction_loss:
            loss = loss + options.direction_loss * subject.directions(compared, pairs, options.depth_weight).loss()
        if options.value_loss:
            loss = loss + options.value_loss * _value_errors(subject, compared, fixed, pairs)
        loss.backward()
        self.processes.average_gradients(network.parameters())
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        return loss

    def validate(self, loss: float) -> SimilarityRecord:
        found = [part for subject in self.subjects for part in subject.held_back_directions()]
        rotation, translation = torch.cat([part.rotation for part in found]), torch.cat([part.translation for part in found])
        towards = ((rotation > 0) & (translation > 0)).double().mean()
        means = float(rotation.mean()), float(translation.mean()), float(towards)
        return SimilarityRecord(self.state.step, self.state.elapsed_s, loss, *means)

    def save(self, out: Path) -> None:
        self.state.average.scale.mul_(self.mean_fall())
        save_similarity(out, self.state.average, self.fingerprint, self.notes())

    def mean_fall(self) -> float:
        """How much the average's value falls from start to truth, on average over the held-back pairs.

        Raises:
            InputError: it does not fall, so nothing could follow it.
        """
        fall = float(torch.cat([part for subject in self.subjects for part in subject.held_back_falls()]).mean())
        if not fall > 0:
            raise InputError("nothing was learned: the value does not fall from a start to the true pose; train for longer")
        return fall

    def _held_back(self, maker: PairMaker, subject: int, n_subjects: int) -> list[Pairs]:
        """A share of all; about a range every pair is about a view of its own."""
        count, seed = max(1, self.options.validation_images // n_subjects), _HELD_BACK + self.options.seed
        chunk = _CHUNK if self.options.pairs.around == "middle" else 1
        sizes = [min(chunk, count - begin) for begin in range(0, count, chunk)]
        return [maker.pairs(n, n, seed, subject * _MAXIMUM_CHUNKS + number) for number, n in enumerate(sizes)]


def _value_errors(subject: PairSubject, compared: Comparison, fixed: Tensor, pairs: Pairs) -> Tensor:
    """The mean of starts from X-rays, and that of X-rays from each other, added; mm."""
    network, truth, pivot = subject.network, pairs.views.camera_from_patient, subject.network.reference.pivot
    ones, others = torch.triu_indices(len(fixed), len(fixed), 1)
    between = network.metric.residuals(fixed[ones], fixed[others]).square().sum(-1)

    def error(values: Tensor, one: RigidTransform, other: RigidTransform) -> Tensor:
        distance_mm = LENGTH_MM * squared_geodesic(one, other, pivot).sqrt()
        return network.calibration.loss_mm(values, distance_mm.to(values)).mean()

    from_starts = error(compared.values, pairs.starts[compared.starts], truth[compared.images])
    return (from_starts + error(between, truth[ones], truth[others])).cpu()
