"""Time from the command `fluoro-reg register` to its answer, and where it goes.

    python benchmarks/startup.py CT CASE [--runs 5] [--before FOLDER] [--json]

CASE is the folder of a case (image, camera.json, initial.json). Every run is a process of its own: the first without a cache
of the CT, the others with it. `--before` is the root of another version of the package (such as
`git archive COMMIT fluoro_reg config models | tar -x -C FOLDER`), which runs in turn with this one, so that both see the same
machine. Parts are measured in a process of their own, in the order in which the command needs them; processor time beside
elapsed time shows how busy the machine was.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine, versions

ROOT = Path(__file__).resolve().parents[1]
PARTS = """
import json, sys, time
from pathlib import Path
ct, image, camera, initial = sys.argv[1:]
laps, last = {}, [time.perf_counter(), time.process_time()]
def lap(name):
    now = [time.perf_counter(), time.process_time()]
    laps[name], last[:] = [now[0] - last[0], now[1] - last[1]], now
import fluoro_reg.cli.main
lap("import the command line")
import torch
lap("import torch")
from fluoro_reg.registration import Registrar, RegistrationOptions
lap("import the registration")
from fluoro_reg.formats.cameras import read_camera
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.xray.reader import read_xray
xray, pose = read_xray(image, read_camera(camera)), read_pose(initial)
lap("read the X-ray")
try:
    from fluoro_reg.ct.cache import read_ct_cached as read
except ImportError:
    from fluoro_reg.ct.reader import read_ct as read
volume = read(Path(ct))
lap("read the CT")
registrar = Registrar(volume, RegistrationOptions())
lap("prepare the CT and load the kernels")
registrar.register(xray, pose)
lap("register")
print(json.dumps(laps))
"""


def run(root: Path, cache: Path, arguments: list[str]) -> tuple[float, float, str]:
    """Run Python with the package of a root; return elapsed and processor seconds, and standard output."""
    environment = {**os.environ, "PYTHONPATH": str(root), "FLUORO_REG_CT_CACHE": str(cache), "PYTHONSAFEPATH": "1"}
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    elapsed, after = time.perf_counter() - begin, os.times()
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return elapsed, processor, done.stdout


def measure(roots: dict[str, Path], ct: Path, case: Path, runs: int) -> dict[str, dict]:
    """Return the figures of every version by name."""
    image = next(path for path in case.iterdir() if path.stem == "image")
    files = [str(path.resolve()) for path in (ct, image, case / "camera.json", case / "initial.json")]
    options = [word for pair in zip(("--ct", "--image", "--camera", "--initial"), files, strict=True) for word in pair]
    command = ["-m", "fluoro_reg.cli.main", "register", *options, "--json"]
    found: dict[str, dict] = {name: {"command": [], "parts": []} for name in roots}
    with tempfile.TemporaryDirectory() as folder:
        for name, root in roots.items():
            run(root, Path("off"), command)  # compiles, and reads the files into memory
            found[name]["first"] = run(root, Path(folder) / name, command)[:2]
        for _ in range(runs):
            for name, root in roots.items():
                found[name]["command"].append(run(root, Path(folder) / name, command)[:2])
                found[name]["parts"].append(json.loads(run(root, Path(folder) / name, ["-c", PARTS, *files])[2]))
    return found


def summarise(found: dict) -> dict[str, list[float]]:
    """Return [elapsed, processor] seconds by row: medians of the runs, and the fastest."""

    def median(pairs: list[list[float]]) -> list[float]:
        return [statistics.median(column) for column in zip(*pairs, strict=True)]

    rows = {part: median([laps[part] for laps in found["parts"]]) for part in found["parts"][0]}
    rows["command, the first time"] = list(found["first"])
    rows["command, median of the other times"] = median(found["command"])
    rows["command, fastest"] = [min(column) for column in zip(*found["command"], strict=True)]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("case", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", type=Path, help="root of another version of the package")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    roots = {"before": arguments.before.resolve()} if arguments.before else {}
    load = os.getloadavg()[0]
    summary = {
        name: summarise(found)
        for name, found in measure({**roots, "now": ROOT}, arguments.ct, arguments.case, arguments.runs).items()
    }
    about = {**machine(), **versions("torch", "numba", "scipy", "pydicom"), "load before": round(load, 2)}
    if arguments.json:
        print(json.dumps({"machine": about, "seconds": summary}))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print("\n| seconds (processor seconds) | " + " | ".join(summary) + " |\n|---|" + "--:|" * len(summary))
    for row in next(iter(summary.values())):
        cells = [f"{rows[row][0]:.2f} ({rows[row][1]:.2f})" for rows in summary.values()]
        print(f"| {row} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
