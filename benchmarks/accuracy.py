"""Accuracy of the images and derivatives of all renderers, compared with exact line integrals of the trilinear field.

    python benchmarks/accuracy.py [--size 256] [--quick] [--peers nanodrr,diffdrr|none] [--ct CT] [--plot FILE] [--json]

The renderers are our backends, and the peers with samples one voxel and half a voxel apart. Exact integrals are float64, with
two Gauss points in every cell that a ray crosses. Exact derivatives are their central differences, in the camera's axes, where
depth is a separate column. Errors of the image are rms and maximum, relative to its range; errors of a derivative are rms
relative to its own rms. The peers have no Jacobian, so their pixels are differentiated one by one, which is why the detector is
small.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from matplotlib.figure import Figure
from render_bench.comparison import Comparison, set_up
from render_bench.contenders import PEER_PACKAGES, Contender, contenders
from render_bench.fidelity import image_of, relative_rms
from render_bench.options import common_options, device_of, peers_of, scene_of, size_of
from render_bench.oracle import COLUMNS, exact_derivatives, exact_integrals
from render_bench.report import bars, markdown, save
from render_bench.scene import Scene
from torch import Tensor

from fluoro_reg.errors import InputError

DETECTOR, RAYS, QUICK_RAYS = 32, 1024, 60  # rays whose derivatives are compared; images are compared at all pixels
STEPS_VOXELS = (1.0, 0.5)

Errors = dict[str, Any]


def make_contenders(device: str, peers: list[str]) -> dict[str, Callable[[Scene], Contender]]:
    """Return functions that set up the contenders, by name; the trilinear peers appear once for each step."""
    makers = contenders(device, peers)
    for name in [n for n in makers if n in ("nanodrr", "diffdrr-trilinear")]:
        del makers[name]
        makers |= {f"{name}, {step:g} voxel": contenders(device, peers, step)[name] for step in STEPS_VOXELS}
    return makers


def errors_of(contender: Contender, exact: Tensor, pixels: Tensor, exact_columns: Tensor) -> Errors:
    """Return the errors of the image on all pixels, and those of the derivatives on some."""
    image = image_of(contender).flatten()
    columns = contender.derivatives(pixels) - exact_columns
    relative = columns.square().mean(0).sqrt() / exact_columns.square().mean(0).sqrt()
    return {
        "image_rms": relative_rms(image, exact),
        "image_max": float((image - exact).abs().max() / (exact.max() - exact.min())),
        "columns": dict(zip(COLUMNS, relative.tolist(), strict=True)),
    }


def measure_accuracy(scene: Scene, ready: dict[str, Contender], rays: int) -> dict[str, Errors]:
    """Return the errors of each contender."""
    all_pixels = scene.pixels(scene.camera.width * scene.camera.height)
    exact = exact_integrals(scene.volume, scene.camera_from_patient, scene.camera, all_pixels)
    pixels = scene.pixels(rays)
    exact_columns = exact_derivatives(scene, pixels)
    return {name: errors_of(contender, exact, pixels, exact_columns) for name, contender in ready.items()}


def table(accuracy: dict[str, Errors]) -> str:
    rows = []
    for name, errors in accuracy.items():
        numbers = [errors["image_rms"], errors["image_max"]]
        columns = [f"{100 * value:.2g} %" for value in errors["columns"].values()]
        rows.append([name, *(f"{number:.1e}" for number in numbers), *columns])
    return markdown(["renderer", "image rms / range", "image max / range", *COLUMNS], rows)


def plot(accuracy: dict[str, Errors], title: str, file: Path) -> None:
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    figure.suptitle(title, fontsize=11)
    images = {name: errors["image_rms"] for name, errors in accuracy.items()}
    depths = {name: 100 * errors["columns"]["depth"] for name, errors in accuracy.items()}
    left, right = figure.subplots(1, 2)
    bars(left, "image", images, "rms error / range", [f"{value:.1e}" for value in images.values()])
    bars(
        right,
        "derivative with respect to depth",
        depths,
        "rms error, % of its rms",
        [f"{value:.2g} %" for value in depths.values()],
    )
    save(figure, file)


def run(arguments: Any) -> dict[str, Any]:
    """Return the record that `--json` prints."""
    device, peers, size = device_of(arguments), peers_of(arguments), size_of(arguments)
    scene = scene_of(arguments, arguments.detector or DETECTOR)
    rays = min(QUICK_RAYS if arguments.quick else RAYS, scene.camera.width * scene.camera.height)
    comparison = Comparison()
    ready = set_up(scene, make_contenders(device, peers), comparison)
    return {
        "machine": machine(device),
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": versions("fluoro_reg", "torch", "numba", "numpy", *PEER_PACKAGES),
        "size": list(scene.volume.shape_ijk) if arguments.ct else size,
        "detector": scene.camera.width,
        "rays": rays,
        "accuracy": measure_accuracy(scene, ready, rays),
        "agreement": comparison.agreement,
        "not_run": comparison.not_run,
    }


def main() -> None:
    arguments = common_options(__doc__).parse_args()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # peers may print to standard output
            record = run(arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    title = f"{record['size']} voxels per side, {record['rays']} rays differentiated, {record['device']}"
    if arguments.plot:
        plot(record["accuracy"], title, arguments.plot)
    if arguments.json:
        print(json.dumps(record))
        return
    print(f"{title}\n{', '.join(f'{name} {version}' for name, version in record['versions'].items())}\n")
    print(table(record["accuracy"]))
    for name, why in record["not_run"].items():
        print(f"\n{name} was left out: {why}")


if __name__ == "__main__":
    main()
