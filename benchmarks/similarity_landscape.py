"""Landscapes of similarities around the true pose, over pairs of pose axes, which show their basins of convergence.

    python benchmarks/similarity_landscape.py CASE --similarity PROST.safetensors --similarity SPHERICAL.safetensors --out P.png

CASE is one folder as `fluoro-reg simulate` writes it. Columns are pairs of axes of a twist about the middle of the CT's
skeleton, along the camera's axes: across and down (mm), depth (mm), rotations about them (degrees). Rows are gradient NCC and
multiscale NCC at 64 px across the CT, and the learned similarities. Colours run from the minimum of a panel to its maximum.
Arrows are the direction of the negative gradient at every third point, in units of the axes' ranges.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.formats.cases import RegistrationCase, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned import SimilarityInference, similarity_kind
from fluoro_reg.registration.stages.ct_readings import CTReadings
from fluoro_reg.registration.stages.pose_values import PoseValues, moved
from fluoro_reg.similarity import SIMILARITIES
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess
from fluoro_reg.xray.reader import read_xray

Values = Callable[[RigidTransform], Tensor]
RANGES = torch.tensor([60.0, 60.0, 100.0, *np.radians([30.0, 30.0, 30.0])], dtype=torch.float64)
LABELS = ("across, mm", "down, mm", "depth, mm", "about across, deg", "about down, deg", "in plane, deg")
PAIRS = ((0, 1), (0, 2), (3, 4), (5, 0))
CLASSICAL = ("gradient-ncc", "multiscale-ncc")
PX = 64


def classical_values(case: RegistrationCase, name: str) -> Values:
    """Return a function from poses to the values of a classical similarity."""
    prepared = preprocess(read_xray(case.image, case.intrinsics, case.intensity, case.frame), PreprocessOptions())
    whole = CTReadings.of(read_ct(case.ct), "auto", "auto", "cpu").whole
    scale = whole.scales(prepared, case.truth).scale(PX, None, coarse=True)
    values = PoseValues(scale, whole.model, SIMILARITIES[name]())
    return lambda poses: values.values(poses, torch.zeros(len(poses.translation), 6, dtype=torch.float64))


def learned_values(case: RegistrationCase, path: str) -> Values:
    """Return a function from poses to the values of a learned similarity."""
    image = preprocess(read_xray(case.image, case.intrinsics, case.intensity, case.frame), PreprocessOptions()).image
    inference = SimilarityInference.load(path, similarity_kind(path), read_ct(case.ct)).problem(image)

    @torch.no_grad()
    def values(poses: RigidTransform) -> Tensor:
        return torch.cat([inference.problem.values_at(part) for part in chunks(poses, 64)])

    return values


def chunks(poses: RigidTransform, size: int) -> list[RigidTransform]:
    return [poses[k : k + size] for k in range(0, len(poses.translation), size)]


def landscape(values: Values, truth: RigidTransform, pivot: Tensor, pair: tuple[int, int], steps: int) -> np.ndarray:
    """Return values on a grid, with rows along the second axis of the pair."""
    fraction = torch.linspace(-1, 1, steps, dtype=torch.float64)
    second, first = torch.meshgrid(fraction, fraction, indexing="ij")
    twists = torch.zeros(steps * steps, 6, dtype=torch.float64)
    twists[:, pair[0]], twists[:, pair[1]] = first.flatten() * RANGES[pair[0]], second.flatten() * RANGES[pair[1]]
    return values(moved(RigidTransform.stack([truth] * len(twists)), twists, pivot)).reshape(steps, steps).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--similarity", action="append", default=[], help="weights; repeatable")
    parser.add_argument("--steps", type=int, default=25, help="points along an axis")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    case = read_case(arguments.case)
    rows = {name: classical_values(case, name) for name in CLASSICAL}
    rows |= {similarity_kind(path): learned_values(case, path) for path in arguments.similarity}
    pivot = default_aim_point(read_ct(case.ct))
    figure = Figure(figsize=(3.1 * len(PAIRS), 2.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(PAIRS), squeeze=False)
    units = RANGES.clone()
    units[3:] = torch.rad2deg(units[3:])
    for line, (name, values) in zip(axes, rows.items(), strict=True):
        for ax, pair in zip(line, PAIRS, strict=True):
            grid = landscape(values, case.truth, pivot, pair, arguments.steps)
            grid = np.where(np.isfinite(grid), grid, np.nanmax(grid[np.isfinite(grid)]))
            first, second = (np.linspace(-float(units[axis]), float(units[axis]), arguments.steps) for axis in pair)
            ax.contourf(first, second, grid, levels=24, cmap="viridis")
            every = slice(1, None, 3)
            down, across = (-slope[every, every] for slope in np.gradient(grid))
            length = np.hypot(across, down) + 1e-12
            ax.quiver(first[every], second[every], across / length, down / length, color="w", alpha=0.7, width=0.005, scale=18)
            ax.plot(0, 0, "r+", ms=9)
            ax.set(xlabel=LABELS[pair[0]], ylabel=LABELS[pair[1]])
        line[0].set_title(name, loc="left", fontweight="bold")
    figure.savefig(arguments.out, dpi=72)


if __name__ == "__main__":
    main()
