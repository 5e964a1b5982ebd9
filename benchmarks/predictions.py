"""Errors of a regressor's predictions over cases of its CT, and of the initial pose without a network, straight AP.

    fluoro-reg simulate --ct CT --range C.yaml --cases 200 --out CASES
    fluoro-reg train regressor --ct CT --range C.yaml --out W.safetensors
    python benchmarks/predictions.py CASES --model W.safetensors --range C.yaml --start-from-middle
    fluoro-reg evaluate --cases CASES --model W.safetensors --methods regressor-lm,diffpose,lm-gradient-ncc,cma-es --out OUT

Of a prediction and the one for the opposite view, the nearer one counts, as a registration tries both. Errors are at the
landmarks of the cases. The X-rays are the simulator's, which no training uses. `--start-from-middle` writes the middle of the
range, which needs no image, as the initial pose of all cases (initial.json).
"""

import argparse
import time
from pathlib import Path

import numpy as np

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import from_mapping, load_yaml
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.formats.poses import write_pose
from fluoro_reg.regressor import PosePredictor
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess
from fluoro_reg.xray.reader import read_xray

METRICS = ("mtre_mm", "in_plane_mm", "depth_mm", "rotation_deg")
PERCENTILES = (50, 75, 95)


def errors(predictor: PosePredictor, cases: list[RegistrationCase]) -> tuple[np.ndarray, float]:
    """Return [case, metric] of the nearer prediction, and the median time of a prediction, s."""
    rows, seconds = [], []
    for case in cases:
        image = preprocess(read_xray(case.image, case.intrinsics, case.intensity, case.frame), PreprocessOptions()).image
        start_time = time.perf_counter()
        predictions = predictor.predict(image, opposite_view=True)
        seconds.append(time.perf_counter() - start_time)
        poses = [prediction.camera_from_patient for prediction in predictions]
        found = [target_registration_errors(pose, case.truth, case.landmarks_patient) for pose in poses]
        nearest = min(found, key=lambda error: error.mtre_mm)
        rows.append([getattr(nearest, metric) for metric in METRICS])
    return np.array(rows), float(np.median(seconds))


def write_central_start(cases: list[RegistrationCase], predictor: PosePredictor, carm: CarmRange) -> float:
    """Write the central view as the cases' initial.json; return the median mTRE of that pose, mm."""
    start = carm.central_view(predictor.network.reference.pivot)
    for case in cases:
        write_pose(case.folder / "initial.json", start)
    return float(np.median([target_registration_errors(start, case.truth, case.landmarks_patient).mtre_mm for case in cases]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of cases of one CT")
    parser.add_argument("--model", required=True, help="weights trained on that CT")
    parser.add_argument("--range", type=Path, required=True, help="carm.yaml")
    parser.add_argument("--start-from-middle", action="store_true", help="write the cases' initial.json")
    arguments = parser.parse_args()
    cases = [read_case(folder) for folder in find_cases(arguments.folder)]
    volume: CTVolume = read_ct(cases[0].ct)
    predictor = PosePredictor.load(arguments.model, volume)
    carm = from_mapping(CarmRange, load_yaml(arguments.range), arguments.range.name)
    errors_by_case, seconds = errors(predictor, cases)
    print(f"{len(cases)} predictions, {1000 * seconds:.1f} ms each\n\n| percentile | " + " | ".join(METRICS) + " |")
    print("|--:|" + "--:|" * len(METRICS))
    for percentile, row in zip(PERCENTILES, np.percentile(errors_by_case, PERCENTILES, axis=0), strict=True):
        print(f"| {percentile} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
    if arguments.start_from_middle:
        print(f"\nthe middle of the range: {write_central_start(cases, predictor, carm):.1f} mm off in the median")


if __name__ == "__main__":
    main()
