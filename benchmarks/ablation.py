"""Ablation of the training of a regressor: one change at a time, the same time for each, the same validation views.

    python benchmarks/ablation.py CT --range config/carm.yaml --budget 100 > ablation.md

Run it on an otherwise idle machine, as it compares what a given time buys. All trainings are validated with the views of the
first row, which are degraded and uniformly distributed over the range.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import from_mapping, load_yaml
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.rendering import resolve_device
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.losses import LossOptions
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.trainer import RegressorTraining
from fluoro_reg.training.validation import validation_errors

NO_DEGRADATION: dict[str, Any] = dict.fromkeys(
    ("saturation", "scatter", "noise", "blur_px", "shading", "tools", "writing", "collimation"), 0.0
)


def variants(options: TrainingOptions, carm: CarmRange) -> Iterator[tuple[str, TrainingOptions, CarmRange]]:
    """Yield name, settings and range of every training."""
    network = options.network
    yield "as shipped", options, carm
    yield "geodesic loss alone", replace(options, losses=LossOptions(landmarks=0)), carm
    yield "landmark loss alone", replace(options, losses=LossOptions(geodesic=0)), carm
    yield "log geodesic for geodesic", replace(options, losses=LossOptions(geodesic=0, log_geodesic=0.01)), carm
    diffpose = LossOptions(geodesic=0.01, log_geodesic=0.01, landmarks=0, image=1)
    yield "DiffPose's losses, image loss included", replace(options, losses=diffpose), carm
    yield "head quaternion-adjugate", replace(options, network=replace(network, head="quaternion-adjugate")), carm
    yield "head se3-log", replace(options, network=replace(network, head="se3-log")), carm
    yield "images of 96 px", replace(options, network=replace(network, image_px=96)), carm
    yield "views with a normal distribution", options, normal_range(carm)
    clean = DegradationOptions(density=(1, 1), gamma=(1, 1), **NO_DEGRADATION)
    yield "clean images, varying contrast of bone", replace(options, degradations=clean), carm
    yield "clean images, one contrast", replace(options, degradations=replace(clean, bone_contrast=(1, 1))), carm


def normal_range(carm: CarmRange) -> CarmRange:
    """Return the range as a normal distribution, with half the range to either side as two standard deviations."""
    fields = ("primary_deg", "secondary_deg", "roll_deg", "left_mm", "back_mm", "up_mm", "source_to_object_mm")
    spread: dict[str, Any] = {}
    for name in fields:
        low, high = getattr(carm, name)
        spread[name] = ((low + high) / 2, (high - low) / 4)
    return replace(carm, distribution="normal", **spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--range", type=Path, required=True, help="carm.yaml")
    parser.add_argument("--budget", type=float, default=100.0, help="seconds per training")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose names contain this text")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    volume, device = read_ct(arguments.ct), resolve_device(arguments.device)
    carm = from_mapping(CarmRange, load_yaml(arguments.range), arguments.range.name)
    options = TrainingOptions(budget_s=arguments.budget, patience=1000)
    validation = RegressorTraining(volume, carm, options, device).validation_views
    print(f"{arguments.budget:g} s each, {device}; medians over {options.validation_images} validation views\n")
    print("| training | steps | mTRE, mm | in plane, mm | rotation, deg | below 25 mm |\n|---|--:|--:|--:|--:|--:|")
    for name, changed, views in (variant for variant in variants(options, carm) if arguments.only in variant[0]):
        training = RegressorTraining(volume, views, changed, device)
        with tempfile.TemporaryDirectory() as folder:
            training.run(Path(folder) / "w.safetensors")
        same_images = changed.network.image_px == options.network.image_px
        errors = validation_errors(validation, training.state.average) if same_images else training.best
        numbers = f"{errors.mtre_mm:.1f} | {errors.in_plane_mm:.1f} | {errors.rotation_deg:.1f} | {errors.captured:.0%}"
        print(f"| {name} | {training.state.step} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
