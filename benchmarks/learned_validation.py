"""Trained similarities on the validation pairs of the version that runs this.

    python benchmarks/learned_validation.py CT PROST.safetensors ... --range config/carm.yaml

All weights are validated with the same pairs: mean cosines between the gradient and the direction to the truth, and how
many of the pairs are led towards it. The format of the weights has not changed, but what they are validated on has: since
commit e9cbb85, X-rays of the simulator; before, renderings with the degradations of training. Copied into an older
version, this shows what that version would have said of the same weights.
"""

import argparse
from pathlib import Path

from fluoro_reg.carm.range import load_range
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.learned.checkpoint import similarity_kind
from fluoro_reg.training.pairs import PairOptions
from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--range", default="config/carm.yaml")
    parser.add_argument("--around", default="middle", choices=("middle", "range"), help="the views of the pairs")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1, help="trainings have 0, and choose their best weights with its pairs")
    arguments = parser.parse_args()
    volume, carm = read_ct(arguments.ct), load_range(arguments.range)
    print("| weights | cosine of rotation | of translation | towards the truth |\n|---|--:|--:|--:|", flush=True)
    for weights in arguments.weights:
        kind, pairs = similarity_kind(weights), PairOptions(around=arguments.around)
        options = SimilarityTrainingOptions(kind=kind, validation_images=arguments.pairs, pairs=pairs, seed=arguments.seed)
        record = SimilarityTraining(volume, carm, options, pretrained=weights).validate(0.0)
        figures = f"{record.rotation_cosine:.2f} | {record.translation_cosine:.2f} | {record.towards_truth:.0%}"
        print(f"| {weights.stem} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
