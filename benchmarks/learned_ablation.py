"""What helps a learned similarity to learn a range of views: one change at a time, the same number of steps for each.

    python benchmarks/learned_ablation.py CT --range config/carm.yaml --steps 250 > ablation.md

All trainings are validated with the same pairs, X-rays of the simulator around views of the whole range: mean cosines between
the gradient and the direction to the truth, and the fraction of pairs in which both lead towards it. The first row of each
similarity is repeated with other seeds, which shows how much chance does. `cpu, s` is the processor time of the training.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from ablation import NO_DEGRADATION
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from fluoro_reg.carm.range import CarmRange, load_range
from fluoro_reg.ct.bone import split_soft_tissue_and_bone
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.learned import AbstractLearnedSimilarity, Spherical
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.pairs import PairOptions, Pairs
from fluoro_reg.training.similarity import SimilarityRecord, SimilarityTraining, SimilarityTrainingOptions
from fluoro_reg.training.state import new_state

_WINDOW = 9  # pixels of the local standardisation
_SMALLEST = 0.1  # of a local standard deviation or of a gradient


@dataclass(frozen=True)
class Variant:
    """A training: its settings, what is done to both images before they are compared, and whether only bone is projected."""

    name: str
    options: SimilarityTrainingOptions
    normalise: Callable[[Tensor], Tensor] | None = None
    bone_alone: bool = False


def variants(options: SimilarityTrainingOptions) -> Iterator[Variant]:
    """Yield every training of one kind of similarity."""
    for seed in range(2):
        yield Variant(f"as shipped, seed {seed}", replace(options, seed=seed))
    yield Variant("range: pairs about its middle", replace(options, pairs=PairOptions(around="middle")))
    for views in (2, 4):
        yield Variant(f"pairs: {views} views a step", replace(options, views=views))
    yield Variant("pairs: 8 starts, 4 views", replace(options, starts=8, views=4))
    yield Variant("pairs: 64 X-rays, 8 starts, 4 views", replace(options, batch=64, starts=8, views=4))
    clean = DegradationOptions(
        **{**NO_DEGRADATION, **dict.fromkeys(("beyond", "background", "couch", "offset", "attenuation"), 0.0)}
    )
    yield Variant("domain: no degradations but contrast and display curve", replace(options, degradations=clean))
    yield Variant("values: no loss of distances", replace(options, value_loss=0.0))
    yield Variant("values: ten times the loss of distances", replace(options, value_loss=1.0))
    if options.kind == "prost":
        small, large = (
            replace(options.prost, encoder_channels=(8, 16, 32)),
            replace(options.prost, encoder_channels=(32, 64, 128)),
        )
        yield Variant("network: half the channels", replace(options, prost=small))
        yield Variant("network: twice the channels", replace(options, prost=large))
        yield Variant("network: images of 64 px", replace(options, prost=replace(options.prost, image_px=64)))
    else:
        yield Variant("network: no attention", replace(options, spherical=replace(options.spherical, layers=0)))
        yield Variant("network: images of 64 px", replace(options, spherical=replace(options.spherical, image_px=64)))
        yield Variant("moving image: bone alone", options, bone_alone=True)
    yield Variant("input: logarithm", options, normalise=logarithm)
    yield Variant("input: local standardisation", options, normalise=locally_standardised)
    yield Variant("input: edges", options, normalise=edges)


def logarithm(images: Tensor) -> Tensor:
    """Compress large values of either sign."""
    return torch.asinh(2 * images)


def locally_standardised(images: Tensor) -> Tensor:
    """Subtract the local mean and divide by the local standard deviation."""

    def mean(x: Tensor) -> Tensor:
        return avg_pool2d(pad(x, (_WINDOW // 2,) * 4, mode="replicate"), _WINDOW, stride=1)

    centred = images - mean(images)
    return centred / (mean(centred * centred) + _SMALLEST**2).sqrt()


def edges(images: Tensor) -> Tensor:
    """The length of the gradient, from central differences."""
    padded = pad(images, (1,) * 4, mode="replicate")
    dx, dy = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2], padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return (dx * dx + dy * dy + _SMALLEST**2).sqrt()


def prepare(training: SimilarityTraining, variant: Variant, volume: CTVolume) -> None:
    """Make the changes that are no settings, to the network and its running average."""
    if variant.bone_alone:
        network = training.state.network
        other = Spherical(network.options, network.reference, split_soft_tissue_and_bone(volume)[1])
        other.load_state_dict(network.state_dict())
        other.seen = network.seen
        training.state = new_state(other, SimilarityRecord, training.options.learning_rate, training.options.weight_decay)
        subject = training.subjects[0]
        subject.network, subject.average = training.state.network, training.state.average
    if variant.normalise is not None:
        for network in (training.state.network, training.state.average):
            normalise_inputs(network, variant.normalise)


def normalise_inputs(network: AbstractLearnedSimilarity, normalise: Callable[[Tensor], Tensor]) -> None:
    """Pass both images through a function before they are embedded; moving images are scaled to the spread of X-rays."""
    moving, fixed = network.embed_moving, network.embed_fixed
    if isinstance(network, Spherical):
        median, spread = network._median, network._spread
        network.embed_moving = lambda image: network.encoder(normalise((image - median) / spread))
    else:
        network.embed_moving = lambda image: moving(normalise(image))
    network.embed_fixed = lambda images: fixed(normalise(images))


def train(variant: Variant, volume: CTVolume, carm: CarmRange, pairs: Pairs | None) -> tuple[SimilarityTraining, str]:
    """Train, and return a row of the table; `pairs` are those of another training to validate with."""
    begin, options = time.process_time(), variant.options
    if pairs is not None:
        options = replace(options, validation_images=8)
    training = SimilarityTraining(volume, carm, options)
    prepare(training, variant, volume)
    if pairs is not None:
        training.subjects[0]._validation_pairs = pairs
    with tempfile.TemporaryDirectory() as folder:
        best = training.run(Path(folder) / "w.safetensors")
    figures = f"{best.rotation_cosine:.2f} | {best.translation_cosine:.2f} | {best.towards_truth:.0%}"
    return training, f"| {options.kind} | {variant.name} | {figures} | {time.process_time() - begin:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--range", default="config/carm.yaml")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--pairs", type=int, default=256, help="of the validation")
    parser.add_argument("--kinds", default="prost,spherical")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose names contain this text")
    arguments = parser.parse_args()
    volume, carm = read_ct(arguments.ct), load_range(arguments.range)
    SimilarityTraining.mean_decrease = lambda training: 1.0  # type: ignore[method-assign]  # it may be negative after few steps
    print(f"{arguments.steps} steps each; {arguments.pairs} validation pairs\n")
    print("| similarity | training | cosine of rotation | of translation | towards the truth | cpu, s |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    of_size: dict[int, Pairs] = {}
    for kind in arguments.kinds.split(","):
        options = SimilarityTrainingOptions(
            kind=kind, steps=arguments.steps, validations=2, patience=1000, validation_images=arguments.pairs, average=0.95
        )
        for variant in variants(options):
            if arguments.only not in variant.name:
                continue
            image_px = getattr(variant.options, kind).image_px
            training, row = train(variant, volume, carm, of_size.get(image_px))
            of_size.setdefault(image_px, training.subjects[0].validation_pairs)
            print(row, flush=True)


if __name__ == "__main__":
    main()
