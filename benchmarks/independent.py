"""Register the X-rays that another renderer made of five kinds of CT, and print one table with a column per kind.

    python benchmarks/independent.py FOLDER [--set method=lm-patch-ncc] [--without-initial] [--verbose] [--json]

FOLDER is the data folder `independent`, with cases named KIND_NN_VARIANT_BAND in its folder `cases`. One view determines depth
weakly, so a pose is right if it is within 2 mm in-plane. A case without a pose counts as a failure.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

from cases import GROSS_MM, run

from fluoro_reg.config import from_mapping, parse_overrides
from fluoro_reg.registration import RegistrationOptions

KINDS = ("full", "narrow_field", "bone", "spine_field")
RIGHT_IN_PLANE_MM = 2.0
ACCURATE_MM = 1.0


def kind_of(name: str) -> str:
    """Return the kind of a case: what stands before the slice thickness in its name.

    Example:
        >>> kind_of("spine_field_5mm_03_tool_hard")
        'spine_field'
    """
    match = re.match(r"(.+?)_\d+mm_", name)
    return match[1] if match else name


def summarise(records: list[dict]) -> dict[str, float]:
    """Return the figures of some cases; all are counts, except the seconds."""
    with_pose = [r for r in records if r["mtre_mm"] is not None]
    right = [r for r in with_pose if r["in_plane_mm"] < RIGHT_IN_PLANE_MM]
    accepted = [r for r in with_pose if r["outcome"] == "converged"]
    return {
        "cases": len(records),
        "within_2_mm_in_plane": len(right),
        "within_1_mm": sum(r["mtre_mm"] < ACCURATE_MM for r in with_pose),
        "accepted": len(accepted),
        "accepted_over_10_mm": sum(r["mtre_mm"] > GROSS_MM for r in accepted),
        "right_but_refused": sum(r["outcome"] != "converged" for r in right),
        "median_seconds": statistics.median(r["seconds"] for r in records),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the data folder `independent`")
    parser.add_argument("--set", action="append", default=[], help="registration option, key=value")
    parser.add_argument("--without-initial", action="store_true", help="ignore the initial poses, and search all views")
    parser.add_argument("--verbose", action="store_true", help="print one line per case")
    parser.add_argument("--json", action="store_true", help="print one JSON object with summary and records")
    arguments = parser.parse_args()
    options = from_mapping(RegistrationOptions, parse_overrides(arguments.set))
    records = run([arguments.folder / "cases"], options, arguments.verbose, "none" if arguments.without_initial else "initial")
    found = {kind_of(r["case"]) for r in records}
    kinds = [kind for kind in KINDS if kind in found] + sorted(found.difference(KINDS))
    summary = {kind: summarise([r for r in records if kind_of(r["case"]) == kind]) for kind in kinds}
    summary["all"] = summarise(records)
    if arguments.json:
        print(json.dumps({"summary": summary, "records": records}))
        return
    print("\n| | " + " | ".join(summary) + " |\n|---|" + "--:|" * len(summary))
    for figure in summary["all"]:
        values = [s[figure] for s in summary.values()]
        print(f"| {figure} | " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in values) + " |")


if __name__ == "__main__":
    main()
