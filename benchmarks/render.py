"""Speed and memory of this project's renderers compared with public ones, for the same images at comparable accuracy.

    python benchmarks/render.py [--size 256] [--quick] [--peers nanodrr,diffdrr|none] [--ct CT] [--plot FILE] [--json]

Rows: images alone; images with the gradient of one weighted sum of their pixels with respect to the pose; images with all six
derivatives of every pixel, which the peers do not have. Each row is for one pose and for eight. All entries run in turn in one
process with all threads. The report has medians, the peak of extra memory, and the image's error compared with exact integrals.
Ratios are relative to our fastest backend; where a peer computes the gradient of one scalar, ours is charged with the full
Jacobian. On CUDA, the report also has microseconds per view and their lower bounds. The peers are optional;
benchmarks/README.md explains how to install them.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from matplotlib.figure import Figure
from render_bench.comparison import Comparison, Effort, compare
from render_bench.contenders import PEER_PACKAGES, contenders
from render_bench.entries import BATCHES, Entry
from render_bench.options import common_options, device_of, peers_of, scene_of, size_of
from render_bench.report import bars, duration, markdown, memory, save
from render_bench.views import per_view

from fluoro_reg.errors import InputError

FULL, QUICK = Effort(rounds=7, budget_s=120.0, rays=2000), Effort(rounds=2, budget_s=3.0, rays=300)
PANELS = {"image": ("forward",), "image and derivatives": ("forward+backward", "image+jacobian")}


def table(result: Comparison) -> str:
    rows = []
    for name, seconds in sorted(result.seconds.items(), key=lambda item: (Entry.parse(item[0]).batch, item[1])):
        entry = Entry.parse(name)
        extra = memory(result.memory_bytes[name]) if name in result.memory_bytes else "-"
        error = f"{result.accuracy[entry.contender]['image_rms']:.1e}"
        ratio = f"{result.ratio_to_ours[name]:.3g}"
        rows.append((entry.row, [entry.contender, entry.row, str(entry.batch), duration(seconds), ratio, extra, error]))
    columns = ["renderer", "row", "poses", "median", "ratio to ours", "peak extra memory", "image rms / range"]
    grouped = [cells for part in PANELS.values() for row, cells in rows if row in part]
    return markdown(columns, grouped, texts=2)


def agreement_table(result: Comparison) -> str:
    """Return the table that shows whether all renderers compute the same image."""
    names = [name for name in result.agreement if not name.startswith("ours-")]
    agreements = [result.agreement[name] for name in names]
    numbers = [[f"{s['correlation']:.7f}", f"{s['difference']:.1e}", f"{s['allowed']:.1e}"] for s in agreements]
    rows = [
        [name, *texts, "yes" if s["comparable"] else "no"] for name, texts, s in zip(names, numbers, agreements, strict=True)
    ]
    columns = ["image against ours", "correlation", "rms / range", "ours moved by a quarter pixel", "comparable"]
    return markdown(columns, rows) if rows else ""


def views_table(views: dict[str, dict[str, float]]) -> str:
    rows = [[name, f"{v['microseconds']:.1f}", f"{v['floor_microseconds']:.1f}"] for name, v in views.items()]
    return markdown(["entry", "us per view", "lower bound, us"], rows)


def plot(result: Comparison, title: str, file: Path) -> None:
    """Plot bars of seconds, with a panel for each kind of work and each batch."""
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for line, (what, rows) in enumerate(PANELS.items()):
        for column, batch in enumerate(BATCHES):
            named = {Entry.parse(name): value for name, value in result.seconds.items()}
            chosen = {e: value for e, value in named.items() if e.row in rows and e.batch == batch}
            values = {e.contender + (f"\n{e.row}" if len(rows) > 1 else ""): value for e, value in chosen.items()}
            texts = [f"{duration(value)}  ({result.ratio_to_ours[e.name]:.3g})" for e, value in chosen.items()]
            axes = figure.add_subplot(len(PANELS), len(BATCHES), 1 + line * len(BATCHES) + column)
            bars(axes, f"{what}, {batch} pose{'s' if batch > 1 else ''}", values, "seconds (ratio to ours)", texts)
    save(figure, file)


def run(arguments: Any) -> tuple[dict[str, Any], Comparison]:
    """Return the record that `--json` prints, and the comparison in it."""
    device, peers, size = device_of(arguments), peers_of(arguments), size_of(arguments)
    scene = scene_of(arguments, arguments.detector or size)
    effort = QUICK if arguments.quick else FULL
    result = compare(scene, contenders(device, peers), effort)
    record = {
        "machine": machine(device),
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": versions("fluoro_reg", "torch", "numba", "numpy", *PEER_PACKAGES),
        "size": list(scene.volume.shape_ijk) if arguments.ct else size,
        "detector": scene.camera.width,
        **result.as_dict(),
    }
    if device == "cuda":
        record["cuda"] = per_view(scene, device, effort.rounds, 2.0, int(record["machine"]["multiprocessors"]))
    return record, result


def main() -> None:
    arguments = common_options(__doc__).parse_args()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # peers may print to standard output
            record, result = run(arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    where = f"{record['machine'].get('gpu', record['machine']['cpu'])}, {record['threads']} threads"
    title = f"{record['size']} voxels and {record['detector']} pixels per side, {record['device']}: {where}"
    if arguments.plot:
        plot(result, title, arguments.plot)
    if arguments.json:
        print(json.dumps(record))
        return
    print(f"{title}\n{', '.join(f'{name} {version}' for name, version in record['versions'].items())}\n")
    print(f"{table(result)}\n\n{agreement_table(result)}".rstrip())
    for name, why in result.not_run.items():
        print(f"\n{name} was not run: {why}")
    if "cuda" in record:
        print(f"\n{views_table(record['cuda']['views'])}")


if __name__ == "__main__":
    main()
