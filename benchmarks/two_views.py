"""Accuracy of depth with one view and with two: the same cases, registered from one X-ray and from two, 60 degrees apart.

    fluoro-reg simulate --ct CT --out CASES --cases 30
    python benchmarks/two_views.py CASES [--angle 60] [--json]

The second X-ray is simulated with the settings of the case's variant, with the C-arm rotated about the patient's long axis
through the landmarks. The relative pose of the two cameras is known exactly. Depth is along the first camera's optical axis.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import TargetErrors, target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult
from fluoro_reg.simulation.simulator import SimulationOptions, XraySimulator
from fluoro_reg.simulation.variants import VARIANTS
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.reader import read_xray
from fluoro_reg.xray.view import CalibratedXray


def views_of(case: RegistrationCase, simulator: XraySimulator, angle_deg: float, seed: int) -> list[CalibratedXray]:
    """Return the case's X-ray, and another of the same patient from the side."""
    rotation_twist = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, angle_deg], dtype=torch.float64).deg2rad()
    side = retract(case.truth, rotation_twist, case.landmarks_patient.mean(0))
    pixels = simulator.image(side, case.intrinsics, torch.Generator().manual_seed(seed))
    values = torch.from_numpy(pixels.astype("float32"))
    second = XrayImage(values, case.intrinsics, Intensity.TRANSMITTED, torch.ones(values.shape, dtype=torch.bool))
    first = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
    return [CalibratedXray(first, RigidTransform.identity()), CalibratedXray(second, side @ case.truth.inverse())]


def run(folders: list[Path], angle_deg: float) -> list[dict[str, Any]]:
    registrars: dict[Path, Registrar] = {}
    simulators: dict[tuple[Path, str], XraySimulator] = {}
    records = []
    for seed, folder in enumerate(case for root in folders for case in find_cases(root)):
        case = read_case(folder)
        ct = case.ct.resolve()
        if ct not in registrars:
            registrars[ct] = Registrar(read_ct(ct), RegistrationOptions())
        if (ct, case.variant) not in simulators:
            simulators[ct, case.variant] = XraySimulator(registrars[ct].ct, VARIANTS.get(case.variant, SimulationOptions()))
        views = views_of(case, simulators[ct, case.variant], angle_deg, seed)
        one = registrars[ct].register(views[0].image, case.initial)
        two = registrars[ct].register_views(views, case.initial)
        records.append(
            {"case": folder.name, "variant": case.variant, "one": result_record(one, case), "two": result_record(two, case)}
        )
        print(f"{folder.name}: {records[-1]}", file=sys.stderr)
    return records


def result_record(result: RegistrationResult, case: RegistrationCase) -> dict[str, Any]:
    errors: TargetErrors | None = None
    if result.camera_from_patient is not None:
        errors = target_registration_errors(result.camera_from_patient, case.truth, case.landmarks_patient)
    return {
        "accepted": result.accepted,
        "reason": result.reason,
        "seconds": result.elapsed_s,
        "errors": asdict(errors) if errors else None,
    }


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians and means over the cases that both accept, and their ratios."""
    both = [record for record in records if record["one"]["accepted"] and record["two"]["accepted"]]
    figures: dict[str, Any] = {"cases": len(records), "accepted by both": len(both)}
    if not both:
        return figures
    for views in ("one", "two"):
        figures[f"{views}: accepted"] = sum(record[views]["accepted"] for record in records)
        figures[f"{views}: median seconds"] = statistics.median(record[views]["seconds"] for record in records)
        for name in ("depth_mm", "in_plane_mm", "mtre_mm"):
            values = [record[views]["errors"][name] for record in both]
            figures[f"{views}: median {name}"], figures[f"{views}: mean {name}"] = (
                statistics.median(values),
                statistics.mean(values),
            )
    for statistic in ("median", "mean"):
        figures[f"{statistic} depth error of one view / of two"] = (
            figures[f"one: {statistic} depth_mm"] / figures[f"two: {statistic} depth_mm"]
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="+", help="folders of cases")
    parser.add_argument("--angle", type=float, default=60.0, help="degrees between the views")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        records = run(arguments.cases, arguments.angle)
    except InputError as error:
        sys.exit(f"error: {error}")
    figures = summary(records)
    if arguments.json:
        print(json.dumps({"machine": machine(), "versions": versions("fluoro_reg", "torch"), **figures, "records": records}))
        return
    for name, value in figures.items():
        print(f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |")


if __name__ == "__main__":
    main()
