r"""Networks of several patients, and seconds of training on one who was left out, beside as many seconds from nothing.

    python benchmarks/learned_patients.py LEFT_OUT --ct OTHER --out OUT

One regressor and one ProST similarity are trained for `--minutes` on phantoms of several seeds, sexes and sizes and on the CTs
of `--ct`, with the steps of all of them in turn. Then LEFT_OUT is trained on for `--seconds`, from those weights and from
nothing. Every row is validated on the same X-rays of LEFT_OUT, which the simulator made and no training has used: median errors
of a regressor, mean cosines and the pairs that are led towards the truth of a similarity. OUT keeps phantoms and weights, so
that an interrupted run goes on where it ended.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from learned_transfer import NETWORKS

from fluoro_reg.carm.range import load_range
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.similarity import SimilarityRecord, SimilarityTraining, SimilarityTrainingOptions
from fluoro_reg.training.trainer import RegressorTraining
from fluoro_reg.training.validation import RegressorRecord

FAMILY = (
    PhantomOptions(seed=0),
    PhantomOptions(seed=1, sex="male", scale=1.08),
    PhantomOptions(seed=2, scale=0.92),
    PhantomOptions(seed=3, sex="male"),
)
HEADERS = {
    "regressor": "| training | steps | mTRE, mm | in plane, mm | rotation, deg | below 25 mm |\n|---|--:|--:|--:|--:|--:|",
    "prost": "| training | steps | cosine of rotation | of translation | towards the truth |\n|---|--:|--:|--:|--:|",
}


def phantoms(out: Path) -> list[Path]:
    """The phantoms, made once."""
    folders = [out / f"phantom_{options.seed}" for options in FAMILY]
    for folder, options in zip(folders, FAMILY, strict=True):
        if not folder.is_dir():
            write_dicom_series(folder, *phantom_hu(options))
    return folders


def train(kind: str, cts: list[Path], weights: Path, seconds: float, range_path: str, pretrained: Path | None = None) -> int:
    """Train a network, unless its weights are there, and return its number of steps."""
    summary = weights.with_suffix(".json")
    if not weights.is_file():
        command = [sys.executable, "-m", "fluoro_reg.cli.main", "train", *NETWORKS[kind], "--out", str(weights), "--json"]
        command += ["--range", range_path, "--budget", f"{seconds:g}s", "--device", "cpu"]
        command += [part for ct in cts for part in ("--ct", str(ct))]
        command += [] if pretrained is None else ["--pretrained", str(pretrained)]
        summary.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return int(json.loads(summary.read_text())["steps"])


def validated(kind: str, ct: Path, weights: Path, range_path: str) -> str:
    """The figures of weights over the validation X-rays of a CT."""
    volume, carm = read_ct(ct), load_range(range_path)
    training: RegressorTraining | SimilarityTraining
    if kind == "regressor":
        training = RegressorTraining(volume, carm, TrainingOptions(), pretrained=weights)
    else:
        training = SimilarityTraining(volume, carm, SimilarityTrainingOptions(kind=kind), pretrained=weights)
    try:
        return figures(training.validate(0.0))
    finally:
        training.threads.close()


def figures(record: RegressorRecord | SimilarityRecord) -> str:
    """Columns of the table."""
    if isinstance(record, RegressorRecord):
        return f"{record.mtre_mm:.1f} | {record.in_plane_mm:.1f} | {record.rotation_deg:.1f} | {record.captured:.0%}"
    return f"{record.rotation_cosine:.2f} | {record.translation_cosine:.2f} | {record.towards_truth:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("left_out", type=Path, metavar="LEFT_OUT", help="the CT of a new patient")
    parser.add_argument("--ct", type=Path, action="append", default=[], help="a CT of another patient; repeatable")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--range", default="config/carm.yaml")
    parser.add_argument("--minutes", type=float, default=6.0, help="of training for each network of several patients")
    parser.add_argument("--seconds", default="30,120", help="of training on LEFT_OUT")
    parser.add_argument("--kinds", default="regressor,prost")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    others = [*phantoms(arguments.out), *arguments.ct]
    for kind in arguments.kinds.split(","):
        several = arguments.out / f"{kind}_several.safetensors"
        steps = train(kind, others, several, 60 * arguments.minutes, arguments.range)
        print(f"\n{HEADERS[kind]}")
        row = validated(kind, arguments.left_out, several, arguments.range)
        print(f"| {len(others)} other patients, {arguments.minutes:g} min | {steps} | {row} |", flush=True)
        for seconds in map(float, arguments.seconds.split(",")):
            for name, pretrained in (("nothing", None), ("several", several)):
                weights = arguments.out / f"{kind}_{name}_{seconds:g}s.safetensors"
                steps = train(kind, [arguments.left_out], weights, seconds, arguments.range, pretrained)
                row = validated(kind, arguments.left_out, weights, arguments.range)
                text = "nothing" if pretrained is None else "the weights of the others"
                print(f"| {seconds:g} s from {text} | {steps} | {row} |", flush=True)


if __name__ == "__main__":
    main()
