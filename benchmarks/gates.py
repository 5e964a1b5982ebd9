"""What the gates let through and what they refuse wrongly, from the answers that `adversarial.py` wrote.

    python benchmarks/gates.py OUT.jsonl [MORE.jsonl ...] [--plot ROC.png]

Prints one table by kind of image, one by gate, one by score, and one for a score that is learned over the evidence. A pose is
wrong if its image shows nobody or somebody else, or if it is more than 10 mm (mTRE) from the truth; it is right within 2 mm
in-plane. Bounds are upper ends of one-sided 95 % confidence intervals (Clopper and Pearson, 1934).
"""

import argparse
import json
import math
import statistics
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gate_score import compared, gain
from matplotlib.figure import Figure
from render_bench.report import markdown
from scipy.stats import beta

from fluoro_reg.registration.options import GateOptions

GROSS_MM, LARGE_MM, RIGHT_IN_PLANE_MM = 10.0, 5.0, 2.0
CONFIDENCE = 0.95
Record = dict[str, Any]


def is_wrong(record: Record) -> bool:
    return record["wrong"] or record.get("mtre_mm", 0.0) > GROSS_MM


def is_right(record: Record) -> bool:
    return not record["wrong"] and record.get("in_plane_mm", math.inf) < RIGHT_IN_PLANE_MM


def upper_bound(failures: int, n: int) -> float:
    """The upper end of the one-sided confidence interval of a fraction."""
    return 1.0 if failures >= n else float(beta.ppf(CONFIDENCE, failures + 1, n - failures))


def gain_over_decoys(scores: dict[str, float]) -> float:
    """The evidence relative to that of decoys, as `minimum_decoy_gain` has it; NaN where none was registered."""
    if "decoy_similarity" not in scores:
        return math.nan
    return gain(scores["similarity"]) / gain(scores["decoy_similarity"])


SCORES: dict[str, Callable[[dict[str, float]], float]] = {  # larger is better
    "similarity": lambda s: s["similarity"],
    "patch similarity": lambda s: s["patch_similarity"],
    "gain over decoys": gain_over_decoys,
    "margin over rivals": lambda s: s["similarity"] - s["rival_similarity"] if "rival_similarity" in s else math.nan,
    "overlap": lambda s: s["overlap"],
    "depth sd (negative)": lambda s: -s.get("depth_sd_mm", 1e3),
    "turn sd (negative)": lambda s: -s.get("turn_sd_deg", 1e3),
}


def by_kind(records: list[Record]) -> str:
    rows = []
    for path in dict.fromkeys(record["path"] for record in records):
        group = [record for record in records if record["path"] == path]
        for kind in [*dict.fromkeys(record["kind"] for record in group), "all"]:
            some = [record for record in group if kind in (record["kind"], "all")]
            accepted = [record for record in some if record["accepted"]]
            errors = [record["mtre_mm"] for record in accepted if not record["wrong"]]
            false = [record for record in accepted if record["wrong"]]
            counts = [sum(error > limit for error in errors) for limit in (LARGE_MM, GROSS_MM)]
            middle = f"{statistics.median(errors):.2f}" if errors else "-"
            rows.append([path, kind, *map(str, (len(some), len(accepted), len(false), *counts)), middle])
    columns = ["path", "image", "n", "accepted", "accepted, nobody's", "> 5 mm", "> 10 mm", "median mTRE, mm"]
    return markdown(columns, rows, texts=2)


def by_reason(records: list[Record]) -> str:
    """How often each gate was the first to reject a wrong pose, and a right one."""
    names: dict[str, list[int]] = {}
    for record in records:
        if not record["accepted"]:
            words = "".join(c for c in record["reason"] if not (c.isdigit() or c in ".-<%"))
            name = textwrap.shorten(words.replace(",", ""), 100, placeholder=" ...")
            counts = names.setdefault(name, [0, 0])
            counts[0] += is_wrong(record)
            counts[1] += is_right(record)
    rows = [[name, str(wrong), str(right)] for name, (wrong, right) in sorted(names.items(), key=lambda item: -item[1][0])]
    return markdown(["first gate that rejects", "wrong poses", "right poses"], rows, texts=1)


def by_score(records: list[Record]) -> str:
    """Each score alone: the area under its ROC curve, and what a threshold above every wrong pose would refuse."""
    rows = []
    for name, score in SCORES.items():
        wrong, right = values(records, score)
        if not len(wrong) or not len(right):
            continue
        highest = wrong.max()
        rows.append([name, str(len(wrong)), str(len(right)), f"{area(wrong, right):.4f}", f"{highest:.3g}",
                     f"{(right <= highest).mean():.1%}", f"{upper_bound(0, len(wrong)):.2%}"])  # fmt: skip
    columns = [
        "score",
        "wrong",
        "right",
        "area under ROC",
        "highest wrong",
        "right ones below it",
        "bound on wrong ones above it",
    ]
    return markdown(columns, rows, texts=1)


def by_learned_score(records: list[Record]) -> str:
    """What a threshold on a learned score accepts of images that it was not learned on, if they show enough of the CT."""
    rows, minimum = [], GateOptions().minimum_overlap
    for name, paths in (("search", ("search",)), ("search and tracker", ("search", "tracker"))):
        some = [record for record in records if record["path"] in paths and record["scores"].get("overlap", 0.0) >= minimum]
        wrong, right = ([record for record in some if test(record)] for test in (is_wrong, is_right))
        if wrong and right:
            rows += [[name, *row[:2], str(len(wrong)), *row[2:]] for row in compared(wrong, right)]
    return markdown(["path", "accepts by", "margin", "wrong", "accepted", "right ones accepted"], rows, texts=2)


def values(records: list[Record], score: Callable[[dict[str, float]], float]) -> tuple[np.ndarray, np.ndarray]:
    """The score of the wrong and of the right poses."""
    groups = [[score(r["scores"]) for r in records if r["scores"] and test(r)] for test in (is_wrong, is_right)]
    wrong, right = (np.array([value for value in group if math.isfinite(value)]) for group in groups)
    return wrong, right


def area(wrong: np.ndarray, right: np.ndarray) -> float:
    """The probability that a right pose has a higher score than a wrong one."""
    ordered = np.sort(wrong)
    below = (np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")) / 2
    return float(below.mean() / len(wrong))


def plot(records: list[Record], path: Path) -> None:
    figure = Figure(figsize=(6, 4.5))
    axes = figure.subplots()
    for name, score in SCORES.items():
        wrong, right = values(records, score)
        if len(wrong) and len(right):
            thresholds = np.sort(np.concatenate([wrong, right]))[::-1]
            axes.plot([(wrong >= t).mean() for t in thresholds], [(right >= t).mean() for t in thresholds], label=name)
    wrong, right = ([r for r in records if test(r)] for test in (is_wrong, is_right))
    axes.plot(*(max(np.mean([r["accepted"] for r in group]), 1e-4) for group in (wrong, right)), "k*", ms=12, label="all gates")
    axes.set(xscale="log", xlim=(8e-5, 1), ylim=(0, 1.02), xlabel="accepted of wrong poses", ylabel="accepted of right poses")
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path, help="write ROC curves of the searched images")
    arguments = parser.parse_args()
    records = [{**json.loads(line), "run": path.name} for path in arguments.answers for line in path.read_text().splitlines()]
    wrong = [record for record in records if is_wrong(record)]
    false = sum(record["accepted"] for record in wrong)
    clean = [record for record in records if record["kind"] == "clean"]
    refused = sum(not record["accepted"] for record in clean)
    options = GateOptions()
    print(f"{len(records)} images; {false} of {len(wrong)} wrong ones accepted, at most {upper_bound(false, len(wrong)):.2%};")
    print(f"{refused} of {len(clean)} clean ones refused ({refused / max(len(clean), 1):.1%}).")
    print(f"Thresholds: {options}\n")
    of_searches = by_score([r for r in records if r["path"] == "search"])
    print(by_kind(records), by_reason(records), of_searches, by_learned_score(records), sep="\n\n")
    if arguments.plot is not None:
        plot([record for record in records if record["path"] == "search"], arguments.plot)


if __name__ == "__main__":
    main()
