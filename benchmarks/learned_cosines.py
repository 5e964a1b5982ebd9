"""Where the gradients of trained similarities point on given X-rays, such as those of another renderer.

    python benchmarks/learned_cosines.py CASES PROST.safetensors ... --ct-name full_5mm

Weights of the same CT are compared on the same pairs. Around the true pose of each X-ray, initial poses are drawn that are as
far away as those of a training with the published spread, where two poses are drawn around one view. The cosines are between
the gradient and the direction to the truth, as in the validation of a training, but an initial pose from behind is compared as
in a registration, whatever side the X-ray is taken from. ± is the standard error of the mean over X-rays.
"""

import argparse
import math
from pathlib import Path

import torch

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import SimilarityInference
from fluoro_reg.learned.checkpoint import similarity_kind
from fluoro_reg.networks.opposite_view import opposite_view
from fluoro_reg.training.gradient_direction import DirectionCosines, direction_cosines
from fluoro_reg.training.pairs import PairOptions, PosesAround
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess
from fluoro_reg.xray.reader import read_xray

APART = math.sqrt(2)  # the spread of the difference of two poses, relative to that of each
PUBLISHED = PairOptions()


@torch.no_grad()
def cosines_of(case: RegistrationCase, inference: SimilarityInference, starts: RigidTransform) -> DirectionCosines:
    """The cosines of one X-ray, from some initial poses; those from behind are compared as their opposite views."""
    prepared = preprocess(read_xray(case.image, case.intrinsics, case.intensity, case.frame), PreprocessOptions())
    if prepared.rejection is not None:
        raise InputError(f"{case.folder.name}: {prepared.rejection}")
    problem, parts = inference.problem(prepared.image), []
    for side in problem.sides(starts):
        at = side.problem.evaluate(side.poses)
        gradients = 2 * (at.jacobian.mT @ at.residuals[..., None]).squeeze(-1)
        truth = RigidTransform.stack([case.truth] * len(side.rows))
        truth = opposite_view(truth, problem.pivot) if side.is_opposite else truth
        parts.append(direction_cosines(gradients.double(), side.poses, truth, problem.pivot))
    return DirectionCosines(torch.cat([part.rotation for part in parts]), torch.cat([part.translation for part in parts]))


def mean_and_error(of_xrays: list[torch.Tensor]) -> str:
    """The mean over X-rays, and its standard error."""
    means = torch.stack([values.mean() for values in of_xrays])
    return f"{means.mean():.2f} ± {means.std() / len(means) ** 0.5:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--ct-name", default="", help="only cases of this CT")
    parser.add_argument("--starts", type=int, default=64, help="initial poses for each X-ray")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cases = [case for case in map(read_case, find_cases(arguments.cases)) if case.ct_name.startswith(arguments.ct_name)]
    if len({case.ct.resolve() for case in cases}) != 1:
        raise SystemExit("these cases hold X-rays of no CT or of several; give the --ct-name of one")
    volume = read_ct(cases[0].ct.resolve())
    spread = PairOptions(
        rotation_deg=APART * PUBLISHED.rotation_deg,
        translation_mm=APART * PUBLISHED.translation_mm,
        depth_mm=APART * PUBLISHED.depth_mm,
    )
    print("| weights | X-rays | cosine of rotation | of translation | towards the truth |\n|---|--:|--:|--:|--:|", flush=True)
    for weights in arguments.weights:
        inference = SimilarityInference.load(weights, similarity_kind(weights), volume)
        pivot, found = inference.network.reference.pivot, []
        for number, case in enumerate(cases):
            generator = torch.Generator().manual_seed(arguments.seed + number)
            starts = PosesAround(case.truth, spread).sample(pivot, arguments.starts, generator)
            found.append(cosines_of(case, inference, starts))
        towards = torch.cat([(one.rotation > 0) & (one.translation > 0) for one in found]).double().mean()
        rotation, translation = (mean_and_error([getattr(one, name) for one in found]) for name in ("rotation", "translation"))
        print(f"| {weights.stem} | {len(cases)} | {rotation} | {translation} | {towards:.0%} |", flush=True)


if __name__ == "__main__":
    main()
