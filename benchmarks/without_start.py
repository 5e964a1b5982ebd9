"""Registers cases without their start, by what weights predict, and prints how good the prediction and the result are.

    python benchmarks/phantom.py PHANTOM
    fluoro-reg train regressor --ct PHANTOM --range config/carm.yaml --out W.safetensors
    fluoro-reg simulate --ct PHANTOM --out CASES --cases 60
    python benchmarks/without_start.py CASES --model W.safetensors --method regressor-lm --method diffpose [--json]

Errors are mTRE at the cases' landmarks, mm; the X-rays are the simulator's, which no training has seen. All cases have one CT.
"""

import argparse
import json
import statistics
from pathlib import Path

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.evaluation.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.xray.reader import read_xray

RIGHT_MM, GROSS_MM = 2.0, 10.0


def run(registrar: Registrar, cases: list[RegistrationCase]) -> dict[str, float | int]:
    """The figures of one method; a case without a pose is a gross error."""
    predicted, found, results = [], [], []
    for case in cases:
        result = registrar.register(read_xray(case.image, case.intrinsics, case.intensity), None)
        results.append(result)
        poses = (result.initial_camera_from_patient, result.camera_from_patient)
        start, end = (None if p is None else target_registration_errors(p, case.truth, case.landmarks_patient) for p in poses)
        if start is not None:
            predicted.append(start)
        found.append(float("inf") if end is None else end.mtre_mm)
    return {
        "cases": len(cases),
        "median_predicted_mtre_mm": statistics.median(start.mtre_mm for start in predicted),
        "median_predicted_in_plane_mm": statistics.median(start.in_plane_mm for start in predicted),
        "median_predicted_turn_deg": statistics.median(start.rotation_deg for start in predicted),
        "median_mtre_mm": statistics.median(found),
        "share_under_2_mm": sum(error < RIGHT_MM for error in found) / len(cases),
        "share_accepted": sum(result.accepted for result in results) / len(cases),
        "gross_accepted": sum(r.accepted and error > GROSS_MM for r, error in zip(results, found, strict=True)),
        "median_prediction_seconds": statistics.median(result.seconds.get("predict", 0.0) for result in results),
        "median_seconds": statistics.median(result.elapsed_s for result in results),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of cases of one CT")
    parser.add_argument("--model", required=True, help="weights trained on that CT")
    parser.add_argument("--method", action="append", help="repeatable; default: regressor-lm")
    parser.add_argument("--json", action="store_true", help="one object")
    arguments = parser.parse_args()
    cases = [read_case(folder) for folder in find_cases(arguments.folder)]
    volume = read_ct(cases[0].ct)
    results = {}
    for method in arguments.method or ["regressor-lm"]:
        registrar = Registrar(volume, RegistrationOptions(method=method, model=arguments.model))
        run(registrar, cases[:1])  # compiles
        results[method] = run(registrar, cases)
    if arguments.json:
        print(json.dumps(results))
        return
    print("\n| | " + " | ".join(results) + " |\n|---|" + "--:|" * len(results))
    for figure in next(iter(results.values())):
        print(f"| {figure} | " + " | ".join(f"{result[figure]:.3g}" for result in results.values()) + " |")


if __name__ == "__main__":
    main()
