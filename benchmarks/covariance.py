"""Whether reported covariances are true: how many errors lie within the 95 % ellipsoid, in plane, in depth and in turns apart.

    python benchmarks/covariance.py CASES [CASES ...] [--method lm-gradient-ncc] [--plot OUT.png]

CASES are folders of cases, such as `independent/cases` or what `fluoro-reg simulate` writes. Poses within 2 mm in-plane count,
accepted or not: a gate says whether a pose is right, the covariance how right it is. Errors are twists about the CT's pivot in
the camera's axes. A factor above 1 is the one by which standard deviations of a row would have to grow for 95 %.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from render_bench.report import markdown
from scipy.stats import chi2

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import find_cases, read_case
from fluoro_reg.geometry import se3
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.assessment.covariance import information_of_ros_covariance
from fluoro_reg.xray.reader import read_xray

RIGHT_IN_PLANE_MM = 2.0
LEVEL = 0.95
GROUPS = {"in plane": (0, 1), "depth": (2,), "turns": (3, 4, 5)}


@dataclass(frozen=True, slots=True)
class Sample:
    """Squared Mahalanobis distances of one pose by group of directions."""

    case_set: str
    compared: str
    accepted: bool
    distances: dict[str, float]


def samples(folder: Path, method: str) -> Iterator[Sample]:
    registrars: dict[Path, Registrar] = {}
    for case in map(read_case, find_cases(folder)):
        if case.ct not in registrars:
            registrars = {case.ct: Registrar(read_ct(case.ct), RegistrationOptions(method=method))}
        registrar = registrars[case.ct]
        image = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
        result = registrar.register(image, case.initial)
        pose, points = result.camera_from_patient, case.landmarks_patient
        if pose is None or result.covariance is None:
            continue
        if target_registration_errors(pose, case.truth, points).in_plane_mm > RIGHT_IN_PLANE_MM:
            continue
        pivot = registrar.readings.whole.model.pivot
        to_camera = torch.block_diag(pose.rotation, pose.rotation)
        error = (to_camera @ se3.local(pose, case.truth, pivot)).numpy()
        twist = torch.linalg.inv(information_of_ros_covariance(result.covariance, pose, pivot))
        covariance = (to_camera @ twist @ to_camera.T).numpy()
        distances = {name: _distance(error[list(rows)], covariance[np.ix_(rows, rows)]) for name, rows in GROUPS.items()}
        compared = f"{result.readings['ct']}, {result.readings['roi']}"
        yield Sample(folder.parent.name if folder.name == "cases" else folder.name, compared, result.accepted, distances)


def _distance(error: np.ndarray, covariance: np.ndarray) -> float:
    return float(error @ np.linalg.solve(covariance, error))


def rows_of(found: list[Sample]) -> Iterator[list[str]]:
    keys = [
        *dict.fromkeys((s.case_set, s.compared) for s in found),
        *dict.fromkeys(("all", s.compared) for s in found),
        ("all", ""),
    ]
    for case_set, compared in keys:
        some = [s for s in found if case_set in (s.case_set, "all") and compared in (s.compared, "")]
        cells = []
        for name, axes in GROUPS.items():
            values, limit = np.array([s.distances[name] for s in some]), chi2.ppf(LEVEL, len(axes))
            cells += [f"{(values <= limit).mean():.0%}", f"{np.sqrt(np.quantile(values, LEVEL) / limit):.2f}"]
        yield [case_set, compared or "all", str(len(some)), *cells]


def plot(found: list[Sample], path: Path) -> None:
    """The fraction of errors within each ellipsoid against the fraction that should be."""
    figure = Figure(figsize=(5, 4.5))
    axes, levels = figure.subplots(), np.linspace(0, 0.999, 200)
    axes.plot([0, 1], [0, 1], "k:", lw=1)
    for name, rows in GROUPS.items():
        values = np.array([s.distances[name] for s in found])
        axes.plot(levels, [(values <= chi2.ppf(level, len(rows))).mean() for level in levels], label=name)
    axes.set(xlabel="level of the ellipsoid", ylabel="errors within it", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--method", default=RegistrationOptions().method)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    found = [sample for folder in arguments.folders for sample in samples(folder, arguments.method)]
    columns = ["cases", "compared", "n", *(f"{name}{column}" for name in GROUPS for column in (", within", ", factor"))]
    print(markdown(columns, list(rows_of(found)), texts=2))
    if arguments.plot is not None:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
