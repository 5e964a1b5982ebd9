"""Give cases the initial poses of papers on learned similarities: random about the middle of a range, whatever the truth is.

    fluoro-reg simulate --ct CT --range benchmarks/ranges/about_ap.yaml --cases 40 --set variants=[standard] --out CASES
    python benchmarks/spread_starts.py CASES --range benchmarks/ranges/about_ap.yaml
    fluoro-reg evaluate --cases CASES --methods cma-es,prost,prost-cmaes --similarity W.safetensors --out OUT

True poses follow the range (a normal distribution), and initial poses have the standard deviations given here. Two settings are
published: 9.45 degrees and 22.4 mm (ProST), and 20 degrees, 30 mm across and 60 mm in depth (`--rotation-deg 20
--translation-mm 30 --depth-mm 60`, with benchmarks/ranges/wide.yaml).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import from_mapping, load_yaml
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.cases import find_cases, read_case, write_case
from fluoro_reg.training.pairs import PairOptions, PosesAround
from fluoro_reg.training.random_values import seeded_generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of cases of one CT")
    parser.add_argument("--range", type=Path, required=True, help="carm.yaml")
    parser.add_argument("--rotation-deg", type=float, default=PairOptions().rotation_deg)
    parser.add_argument("--translation-mm", type=float, default=PairOptions().translation_mm)
    parser.add_argument("--depth-mm", type=float, default=PairOptions().depth_mm)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cases = [read_case(folder) for folder in find_cases(arguments.folder)]
    carm = from_mapping(CarmRange, load_yaml(arguments.range), arguments.range.name)
    aim = default_aim_point(read_ct(cases[0].ct))
    options = PairOptions("middle", arguments.rotation_deg, arguments.translation_mm, arguments.depth_mm)
    starts = PosesAround(carm.central_view(aim), options).sample(aim, len(cases), seeded_generator(arguments.seed, 1))
    errors = []
    for index, case in enumerate(cases):
        write_case(replace(case, initial=starts[index], start_band_mm=None))
        errors.append(target_registration_errors(starts[index], case.truth, case.landmarks_patient).mtre_mm)
    print(
        "mTRE of the initial poses, mm, 50/75/95 %: "
        + ", ".join(f"{value:.0f}" for value in np.percentile(errors, (50, 75, 95)))
    )


if __name__ == "__main__":
    main()
