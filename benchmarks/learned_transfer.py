r"""Learned methods beside classical ones, on X-rays that the training's renderer did not make, from poses far away.

    python benchmarks/learned_transfer.py INDEPENDENT --out OUT --minutes 10

INDEPENDENT is the data folder `independent`, with X-rays of another renderer. Their CTs are trained on, each network for so
many minutes, for `--range` (config/carm.yaml), with the settings of `--train`. `--simulated N` adds N X-rays of the simulator
for each CT, over the whole range. Initial poses are redrawn at exactly 50 and 90 mm mTRE. OUT keeps the weights, and a line
for every registration, so that an interrupted run goes on where it ended; another OUT with the same weights compares versions
of the program. The table counts poses within 10 and 2 mm (mTRE), accepted ones, and accepted ones beyond 10 mm, which must be
0. `--within` leaves out X-rays whose view the range does not hold: no network has been trained for them. A method such as
`prost:1` is the first stage of a method alone: where a learned similarity ends, before anything else looks at the image. A
method such as `prost:1+lm-gradient-ncc` begins where another has ended. Methods that need no initial pose have none, which is
shown as 0 mm.
"""

import argparse
import json
import math
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from cases import GROSS_MM

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.carm.range import load_range
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import RegistrationCase, find_cases, read_case
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.networks.seen_views import SeenViews
from fluoro_reg.registration import LearnedOptions, Method, Registrar, RegistrationOptions, load_method
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases
from fluoro_reg.xray.reader import read_xray

SUCCESS_MM = 2.0
TRIES = 20  # of a direction in which an initial pose can be as far away as it shall be
NETWORKS = {"prost": ("similarity", "--kind", "prost"), "spherical": ("similarity", "--kind", "spherical")}
NETWORKS["regressor"] = ("regressor",)
METHODS = "cma-es,prost,prost-cmaes,spherical-lm,spherical-gd,lm-gradient-ncc,regressor-lm,regressor-cmaes,diffpose,global-lm"
VARIANTS = ("standard", "noisy", "mismatch", "collimated", "open-beam", "leaking", "couch", "attenuation")


def method_of(name: str) -> Method:
    """A method, or the first of its stages from the initial pose alone."""
    whole, _, first = name.partition(":")
    method = load_method(whole)
    return replace(method, search=replace(method.search, keep=0), stages=method.stages[:1]) if first else method


def networks_of(methods: list[str]) -> list[str]:
    """The networks that some methods need."""
    loaded = [method_of(part) for name in methods for part in name.split("+")]
    needed = [name for method in loaded for name in method.learned]
    return list(dict.fromkeys(needed + ["regressor" for method in loaded if "weights" in method.needs]))


def train(name: str, ct: Path, weights: Path, arguments: argparse.Namespace) -> None:
    """Train a network of a CT, unless its weights are there."""
    if weights.is_file():
        return
    command = [sys.executable, "-m", "fluoro_reg.cli.main", "train", *NETWORKS[name], "--ct", str(ct), "--out", str(weights)]
    command += ["--range", str(arguments.range), "--json"]
    command += [] if arguments.steps else ["--budget", f"{60 * arguments.minutes:g}s"]
    settings = [f"steps={arguments.steps}"] if arguments.steps else []
    for setting in [*settings, *arguments.train]:
        command += ["--set", setting]
    print(f"training {weights.name}", flush=True)
    weights.with_suffix(".json").write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def simulated(ct: Path, out: Path, count: int, range_path: str, seed: int) -> list[RegistrationCase]:
    """X-rays of the simulator over the range, made once."""
    if not out.is_dir():
        options = CaseOptions(count=count, variants=VARIANTS, start_mm=((50.0, 50.0),), seed=seed)
        simulate_cases(ct, out, options, carm=load_range(range_path))
    return [read_case(folder) for folder in find_cases(out)]


def is_within(case: RegistrationCase, range_path: str, volume: CTVolume) -> bool:
    """Whether the view of a case is one of the range: its angles, where it is aimed at, and its distance from the source."""
    return SeenViews("it", load_range(range_path), default_aim_point(volume)).problem(case.truth) is None


def start_of(case: RegistrationCase, mtre_mm: float, volume: CTVolume) -> RigidTransform:
    """The initial pose of a case at an error: the same for all methods and versions."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{case.folder.name} {mtre_mm:g}".encode()))
    for _ in range(TRIES):
        try:
            return perturb_to_mtre(case.truth, case.landmarks_patient, mtre_mm, volume.centre_patient, generator)
        except InputError:  # hardly more than a rotation about the landmarks, which does not take them so far
            continue
    raise InputError(f"no initial pose of {case.folder.name} has an error of {mtre_mm} mm")


def register(case: RegistrationCase, registrars: list[Registrar], start: RigidTransform | None) -> dict:
    """Register one X-ray, with each registrar from where the one before has ended, and return its figures."""
    begin, n_renders = time.process_time(), 0
    image = read_xray(case.image, case.intrinsics, case.intensity, case.frame)
    for registrar in registrars:
        result = registrar.register(image, start)
        pose, n_renders = result.camera_from_patient, n_renders + result.n_renders
        start = start if pose is None else pose
    errors = None if pose is None else target_registration_errors(pose, case.truth, case.landmarks_patient)
    return {
        "mtre_mm": errors.mtre_mm if errors else None,
        "in_plane_mm": errors.in_plane_mm if errors else None,
        "accepted": result.accepted,
        "outcome": result.outcome.value,
        "n_renders": n_renders,
        "cpu_s": time.process_time() - begin,
    }


def registrar_of(method: Method, volume: CTVolume, weights: dict[str, Path]) -> Registrar:
    """The registrar of a method with the weights that it needs."""
    learned = LearnedOptions(**{name: str(weights[name]) for name in method.learned})
    model = str(weights["regressor"]) if "weights" in method.needs else ""
    return Registrar(volume, RegistrationOptions(learned=learned, model=model), method=method)


def groups_of(arguments: argparse.Namespace) -> Iterator[tuple[str, Path, list[RegistrationCase]]]:
    """Each CT with its X-rays of both kinds."""
    cases = [read_case(folder) for folder in find_cases(arguments.folder / "cases")]
    for ct_name in dict.fromkeys(case.ct_name for case in cases):
        mine = [case for case in cases if case.ct_name == ct_name]
        if not any(ct_name.startswith(kind) for kind in arguments.kinds.split(",")):
            continue
        ct = mine[0].ct.resolve()
        if arguments.within is not None:
            volume, within = read_ct(ct), arguments.within or arguments.range
            mine = [case for case in mine if is_within(case, within, volume)]
        yield ct_name, ct, mine[: arguments.limit]


def table(records: list[dict], methods: list[str]) -> str:
    """One row for every kind of X-ray, distance and method."""
    lines = [
        "| X-rays | start, mm | method | cases | median, mm | within 10 mm | within 2 mm | accepted | accepted, wrong |"
        " renders | cpu, s |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for source in dict.fromkeys(r["source"] for r in records):
        for start in dict.fromkeys(r["start_mm"] for r in records):
            for method in methods:
                some = [r for r in records if (r["source"], r["start_mm"], r["method"]) == (source, start, method)]
                if not some:
                    continue
                found = [r["mtre_mm"] for r in some if r["mtre_mm"] is not None]
                errors = sorted(math.inf if r["mtre_mm"] is None else r["mtre_mm"] for r in some)
                wrong = sum(r["accepted"] and r["mtre_mm"] > GROSS_MM for r in some)
                median = sorted(some, key=lambda r: r["n_renders"])[len(some) // 2]["n_renders"]
                cpu_s = sorted(r["cpu_s"] for r in some)[len(some) // 2]
                lines.append(
                    f"| {source} | {start:g} | `{method}` | {len(some)} | {errors[len(some) // 2]:.1f} |"
                    f" {sum(e < GROSS_MM for e in found)} |"
                    f" {sum(e < SUCCESS_MM for e in found)} | {sum(r['accepted'] for r in some)} | {wrong} | {median} |"
                    f" {cpu_s:.0f} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the data folder `independent`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each network of each CT")
    parser.add_argument("--steps", type=int, default=0, help="of training, instead of minutes")
    parser.add_argument("--range", default="config/carm.yaml")
    parser.add_argument("--train", action="append", default=[], metavar="KEY=VALUE", help="a setting of the trainings")
    parser.add_argument("--kinds", default="full,narrow,bone", help="of the independent CTs")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--starts", default="50,90", help="mm")
    parser.add_argument("--simulated", type=int, default=60, help="X-rays of the simulator for each CT")
    parser.add_argument("--limit", type=int, default=1000, help="X-rays of another renderer for each CT")
    parser.add_argument("--within", nargs="?", const="", metavar="RANGE", help="only views of this range, or of --range")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    methods, log = arguments.methods.split(","), arguments.out / "records.jsonl"
    arguments.out.mkdir(parents=True, exist_ok=True)
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    done = {(r["case"], r["start_mm"], r["method"]) for r in records}
    for ct_name, ct, independent in groups_of(arguments):
        weights = {name: arguments.out / f"{ct_name}_{name}.safetensors" for name in networks_of(methods)}
        for name, path in weights.items():
            train(name, ct, path, arguments)
        volume = read_ct(ct)
        sources = [("another renderer", case) for case in independent]
        if arguments.simulated:
            cases = simulated(ct, arguments.out / f"{ct_name}_xrays", arguments.simulated, arguments.range, arguments.seed)
            sources += [("simulator", case) for case in cases]
        for method in methods:
            parts = [method_of(part) for part in method.split("+")]
            registrars = [registrar_of(part, volume, weights) for part in parts]
            starts_mm = list(map(float, arguments.starts.split(","))) if "start" in parts[0].needs else [0.0]
            for source, case in sources:
                for start_mm in starts_mm:
                    key = (f"{ct_name} {case.folder.name}", start_mm, method)
                    if key in done:
                        continue
                    start = start_of(case, start_mm, volume) if start_mm else None
                    record = dict(zip(("case", "start_mm", "method"), key, strict=True)) | {"source": source}
                    records.append(record | register(case, registrars, start))
                    with log.open("a") as file:
                        file.write(json.dumps(records[-1]) + "\n")
        print(table(records, methods), flush=True)


if __name__ == "__main__":
    main()
