"""Landscapes of similarities around the true pose, over pairs of pose axes, which show their basins of convergence.

    python benchmarks/similarity_landscape.py CASE --similarity PROST.safetensors --similarity SPHERICAL.safetensors --out P.png

CASE is one folder as `fluoro-reg simulate` writes it, or of X-rays from elsewhere: `--simulated` then shows an X-ray of the
simulator at the same pose beside it. Columns are pairs of axes of a twist about the middle of the CT's skeleton, along the
camera's axes: across and down (mm), depth (mm), rotations about them (degrees). Rows are gradient NCC and multiscale NCC at 64
px across the CT, and the learned similarities. Colours run from the minimum of a panel to its maximum. Arrows are the direction
of the negative gradient at every third point, in units of the axes' ranges. The value at the true pose, as a fraction of the
panel's range above its minimum, and the distance of the minimum from it, in fractions of the axes' ranges, are printed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
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
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.simulator import simulate_xray
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess
from fluoro_reg.xray.reader import read_xray

Values = Callable[[RigidTransform], Tensor]
RANGES = torch.tensor([60.0, 60.0, 100.0, *np.radians([30.0, 30.0, 30.0])], dtype=torch.float64)
LABELS = ("across, mm", "down, mm", "depth, mm", "about across, deg", "about down, deg", "in plane, deg")
PAIRS = ((0, 1), (0, 2), (3, 4), (5, 0))
CLASSICAL = ("gradient-ncc", "multiscale-ncc")
PX, SIMULATED_PX = 64, 256


def simulated_xray(case: RegistrationCase) -> XrayImage:
    """An X-ray of the simulator at the pose of a case, with its camera and `SIMULATED_PX` or more across."""
    camera = case.intrinsics.binned(max(1, case.intrinsics.width // SIMULATED_PX))
    grey = simulate_xray(read_ct(case.ct), case.truth, camera, SimulationOptions(), torch.Generator().manual_seed(0))
    pixels = torch.from_numpy(grey.astype(np.float32))
    return XrayImage(pixels, camera, Intensity.TRANSMITTED, torch.ones_like(pixels, dtype=torch.bool))


def classical_values(case: RegistrationCase, xray: XrayImage, name: str) -> Values:
    """Return a function from poses to the values of a classical similarity."""
    prepared = preprocess(xray, PreprocessOptions())
    whole = CTReadings.of(read_ct(case.ct), "auto", "auto", "cpu").whole
    scale = whole.scales(prepared, case.truth).scale(PX, None, coarse=True)
    values = PoseValues(scale, whole.model, SIMILARITIES[name]())
    return lambda poses: values.values(poses, torch.zeros(len(poses.translation), 6, dtype=torch.float64))


def learned_values(case: RegistrationCase, xray: XrayImage, path: str) -> Values:
    """Return a function from poses to the values of a learned similarity."""
    image = preprocess(xray, PreprocessOptions()).image
    problem = SimilarityInference.load(path, similarity_kind(path), read_ct(case.ct)).problem(image)

    @torch.no_grad()
    def values(poses: RigidTransform) -> Tensor:
        found = torch.zeros(len(poses.translation), dtype=torch.float64)
        for side in problem.sides(poses):
            found[side.rows] = torch.cat([side.problem.values_at(part) for part in chunks(side.poses, 64)])
        return found

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


def draw(ax: Axes, grid: np.ndarray, pair: tuple[int, int]) -> str:
    """Draw a landscape and return in words where its minimum is."""
    units = RANGES.clone()
    units[3:] = torch.rad2deg(units[3:])
    grid = np.where(np.isfinite(grid), grid, np.nanmax(grid[np.isfinite(grid)]))
    steps = len(grid)
    first, second = (np.linspace(-float(units[axis]), float(units[axis]), steps) for axis in pair)
    ax.contourf(first, second, grid, levels=24, cmap="viridis")
    every = slice(1, None, 3)
    down, across = (-slope[every, every] for slope in np.gradient(grid))
    length = np.hypot(across, down) + 1e-12
    ax.quiver(first[every], second[every], across / length, down / length, color="w", alpha=0.7, width=0.005, scale=18)
    ax.plot(0, 0, "r+", ms=9)
    ax.set(xlabel=LABELS[pair[0]], ylabel=LABELS[pair[1]])
    at = np.unravel_index(grid.argmin(), grid.shape)
    away = np.hypot(*(2 * np.array(at) / (steps - 1) - 1))
    height = (grid[steps // 2, steps // 2] - grid.min()) / (np.ptp(grid) or 1.0)
    return f"{height:.2f} above the minimum, which is {away:.2f} away"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--similarity", action="append", default=[], help="weights; repeatable")
    parser.add_argument("--simulated", action="store_true", help="also an X-ray of the simulator at the same pose")
    parser.add_argument("--steps", type=int, default=25, help="points along an axis")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    case = read_case(arguments.case)
    xrays = {case.folder.name: read_xray(case.image, case.intrinsics, case.intensity, case.frame)}
    xrays |= {"simulator": simulated_xray(case)} if arguments.simulated else {}
    pairs, names = PAIRS[:: len(xrays)], [*CLASSICAL, *map(similarity_kind, arguments.similarity)]
    pivot = default_aim_point(read_ct(case.ct))
    figure = Figure(figsize=(3.1 * len(pairs) * len(xrays), 2.9 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(pairs) * len(xrays), squeeze=False)
    for column, (of, xray) in enumerate(xrays.items()):
        rows = [classical_values(case, xray, name) for name in CLASSICAL]
        rows += [learned_values(case, xray, path) for path in arguments.similarity]
        for line, name, values in zip(axes[:, column * len(pairs) :], names, rows, strict=True):
            for ax, pair in zip(line, pairs, strict=False):  # the first columns from here on
                words = draw(ax, landscape(values, case.truth, pivot, pair, arguments.steps), pair)
                print(f"{of}, {name}, {LABELS[pair[0]]} and {LABELS[pair[1]]}: {words}", flush=True)
            line[0].set_title(f"{name}, {of}", loc="left", fontweight="bold", fontsize=9)
    figure.savefig(arguments.out, dpi=72)


if __name__ == "__main__":
    main()
