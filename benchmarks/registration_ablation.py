"""What each part of the registration of X-rays from elsewhere contributes: the same cases without one part at a time.

    python benchmarks/registration_ablation.py CASES [CASES ...]

CASES are folders of cases, such as `independent/cases` or what `fluoro-reg simulate` writes. Prints a row per part: how many
cases are within 2 mm in-plane without it, how many are accepted, how many of these are beyond 10 mm, and the median seconds.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from cases import GROSS_MM, run
from independent import RIGHT_IN_PLANE_MM

from fluoro_reg.optimisers import LevenbergMarquardt
from fluoro_reg.registration import RegistrationOptions, registrar
from fluoro_reg.registration.method import Method, load_method
from fluoro_reg.registration.stages import ct_readings, object_model, solver
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.xray.preprocessing.preprocess import preprocess_readings

FEW = 3  # hypotheses that the search keeps, without "more hypotheses"


def by_similarity(moving: torch.Tensor, fixed: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rank hypotheses by gradient NCC alone, whatever the number of pixels that bear it."""
    return GradientNCC().score(moving, fixed, weight).double().clamp_min(0.0)


def first_reading(*arguments: Any) -> list[Any]:
    """Return the reading of the X-ray that the rules prefer, alone."""
    return preprocess_readings(*arguments)[:1]


def whole_ct(readings: ct_readings.CTReadings, *_: Any) -> list[ct_readings.CTReading]:
    return [readings.whole]


def with_stages(change: Callable[[Method], Method]) -> Callable[..., Method]:
    return lambda *arguments: change(load_method(*arguments))


def plain_steps(method: Method) -> Method:
    """Return the method with Gauss-Newton's own steps."""
    stages = [
        replace(stage, optimiser=replace(stage.optimiser, maximum_stretch=1.0))
        if isinstance(stage.optimiser, LevenbergMarquardt)
        else stage
        for stage in method.stages
    ]
    return replace(method, stages=tuple(stages))


def few_hypotheses(method: Method) -> Method:
    """Return the method with the best hypotheses of the search only."""
    search = None if method.search is None else replace(method.search, keep=FEW)
    return replace(method, search=search, stages=tuple(replace(stage, keep=min(stage.keep, 2)) for stage in method.stages))


PARTS: dict[str, list[tuple[Any, str, Any]]] = {
    "nothing left out": [],
    "bone of a cut CT as a reading": [(ct_readings.CTReadings, "plausible", whole_ct)],
    "several readings of the X-ray": [(registrar, "preprocess_readings", first_reading)],
    "ranking by evidence": [(solver, "image_evidence", by_similarity)],
    "dropping hopeless hypotheses": [(solver, "HOPELESS", 0.0)],
    "more hypotheses": [(registrar, "load_method", with_stages(few_hypotheses))],
    "stretched steps": [(registrar, "load_method", with_stages(plain_steps))],
    "a finer last stage for bone": [(object_model, "BONE_FINEST_PX", 0)],
    "a narrow margin around a bone in air": [(object_model, "MARGIN_OF_BONE_MM", object_model.MARGIN_MM)],
    "thin shafts that count as cut": [(ct_readings, "CUT_FRACTION_OF_OBJECT", ct_readings.CUT_FRACTION)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of cases")
    folders = parser.parse_args().folders
    print("| left out | cases | within 2 mm in-plane | accepted | accepted beyond 10 mm | median seconds |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    for name, changes in PARTS.items():
        patches = [patch.object(owner, attribute, new) for owner, attribute, new in changes]
        for one in patches:
            one.start()
        records = run(folders, RegistrationOptions(), verbose=False)
        patch.stopall()
        right = sum(r["in_plane_mm"] is not None and r["in_plane_mm"] < RIGHT_IN_PLANE_MM for r in records)
        accepted = [r for r in records if r["outcome"] == "converged"]
        gross = sum(r["mtre_mm"] > GROSS_MM for r in accepted)
        seconds = statistics.median(r["seconds"] for r in records)
        print(f"| {name} | {len(records)} | {right} | {len(accepted)} | {gross} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
