"""Register every case of one or more folders of cases (as `fluoro-reg simulate` writes them) and print the results.

    fluoro-reg simulate --ct CT --out CASES --cases 30
    python benchmarks/cases.py CASES [--set method=lm-patch-ncc] [--without-initial] [--verbose] [--json]
    python benchmarks/cases.py CASES --run global-lm@none --run lm-gradient-ncc@ap

`--run` compares methods and where they begin: at the cases' initial poses (`initial`), at the AP view from a usual distance
(`ap`), or nowhere (`none`), so that all views of a range are searched. Errors are 3-D mTRE with respect to the true pose, at
the cases' landmarks and in the camera's axes. Seconds are those of `Registrar.register` alone.
"""

import argparse
import json
import statistics
from pathlib import Path

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.config import from_mapping, parse_overrides
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.xray.reader import read_xray

GROSS_MM = 10.0
USUAL_MM = 700.0  # from the source to the anatomy
STARTS = ("initial", "ap", "none")


def initial_pose(start: str, case: RegistrationCase, registrar: Registrar) -> RigidTransform | None:
    """Where a registration begins, one of `STARTS`."""
    if start == "ap":
        return ap_pose(default_aim_point(registrar.ct), USUAL_MM)
    return case.initial if start == "initial" else None


def run(folders: list[Path], options: RegistrationOptions, verbose: bool, start: str = "initial") -> list[dict]:
    """Return one record per case. `start` is one of `STARTS`."""
    registrars: dict[Path, Registrar] = {}
    records = []
    for folder in (case for root in folders for case in find_cases(root)):
        case = read_case(folder)
        ct = case.ct.resolve()
        xray = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
        if ct not in registrars:
            registrars[ct] = Registrar(read_ct(ct), options)
            initial = initial_pose(start, case, registrars[ct])
            registrars[ct].register(xray, initial)  # a warm-up, which compiles and makes scales and templates
        result = registrars[ct].register(xray, initial_pose(start, case, registrars[ct]))
        given = target_registration_errors(case.initial, case.truth, case.landmarks_patient)
        pose = result.camera_from_patient
        errors = None if pose is None else target_registration_errors(pose, case.truth, case.landmarks_patient)
        record = {
            "case": folder.name,
            "start_mm": given.mtre_mm,
            "mtre_mm": errors.mtre_mm if errors else None,
            "in_plane_mm": errors.in_plane_mm if errors else None,
            "depth_mm": errors.depth_mm if errors else None,
            "outcome": result.outcome.value,
            "reason": result.reason,
            "seconds": result.elapsed_s,
            "n_renders": result.n_renders,
            "scores": result.scores,
        }
        records.append(record)
        if verbose:
            scores = " ".join(f"{name} {value:.2f}" for name, value in result.scores.items())
            outcome_text = f"{errors.mtre_mm:6.2f} mm, in plane {errors.in_plane_mm:5.2f}" if errors else "no pose"
            verdict = f"{result.outcome.value}, {result.elapsed_s:.2f} s"
            print(f"{folder.name} start {given.mtre_mm:5.1f} -> {outcome_text}, {verdict}; {scores}")
    return records


def summarise(records: list[dict]) -> dict:
    """Return the summary of a folder of cases; a case without a pose counts as a gross failure that was rejected."""
    with_pose = [r for r in records if r["mtre_mm"] is not None]
    gross = [r for r in records if r["mtre_mm"] is None or r["mtre_mm"] > GROSS_MM]
    accepted = [r for r in records if r["outcome"] == "converged"]
    n = len(records)
    return {
        "cases": n,
        "median_start_mm": statistics.median(r["start_mm"] for r in records),
        "median_mtre_mm": statistics.median(r["mtre_mm"] for r in with_pose),
        "median_in_plane_mm": statistics.median(r["in_plane_mm"] for r in with_pose),
        "median_depth_mm": statistics.median(r["depth_mm"] for r in with_pose),
        "fraction_under_1_mm": sum(r["mtre_mm"] < 1 for r in with_pose) / n,
        "fraction_under_2_mm": sum(r["mtre_mm"] < 2 for r in with_pose) / n,
        "fraction_under_1_mm_in_plane": sum(r["in_plane_mm"] < 1 for r in with_pose) / n,
        "fraction_under_2_mm_in_plane": sum(r["in_plane_mm"] < 2 for r in with_pose) / n,
        "fraction_accepted": len(accepted) / n,
        "gross_accepted": sum(r in accepted for r in gross),
        "gross_rejected": sum(r not in accepted for r in gross),
        "max_accepted_mtre_mm": max((r["mtre_mm"] for r in accepted), default=None),
        "median_seconds": statistics.median(r["seconds"] for r in records),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of cases")
    parser.add_argument("--set", action="append", default=[], help="registration option, key=value")
    parser.add_argument("--without-initial", action="store_true", help="ignore the initial poses, and search all views")
    parser.add_argument("--run", action="append", help=f"a method and its start (METHOD@{'|'.join(STARTS)}); may be repeated")
    parser.add_argument("--verbose", action="store_true", help="print one line per case")
    parser.add_argument("--json", action="store_true", help="print one JSON object with summary and records")
    arguments = parser.parse_args()
    given = parse_overrides(arguments.set)
    results = {}
    for one in arguments.run or ["@none" if arguments.without_initial else "@initial"]:
        method, _, start = one.rpartition("@")
        if start not in STARTS:
            parser.error(f"--run {one}: the start must be one of {', '.join(STARTS)}")
        options = from_mapping(RegistrationOptions, {**given, "method": method} if method else given)
        for folder in arguments.folders:
            name = f"{folder.name}, {one}" if arguments.run else folder.name
            results[name] = run([folder], options, arguments.verbose, start)
    summaries = {name: summarise(records) for name, records in results.items()}
    if arguments.json:
        print(json.dumps({"summary": summaries, "records": results}))
        return
    print("\n| | " + " | ".join(summaries) + " |\n|---|" + "--:|" * len(summaries))
    for figure in next(iter(summaries.values())):
        values = [s[figure] for s in summaries.values()]
        print(f"| {figure} | " + " | ".join("-" if v is None else f"{v:.3f}" for v in values) + " |")


if __name__ == "__main__":
    main()
