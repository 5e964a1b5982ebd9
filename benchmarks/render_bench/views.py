"""Microseconds per view on a GPU, and lower bounds.

Only the renderers' own work is timed, with the rays already on the GPU: `integrals`, and `jacobian` with the tangents of a
twist, ten calls in a row. The lower bound is the larger one of two. Memory: the CT's non-air box is read once per batch, and
the image (and six columns) is written once per view, at the bandwidth that the GPU reaches in copying. Caches: samples are
counted (planes of the march axis that rays cross in the box) and have the cost that a count of cache traffic gave for an NVIDIA
H200 with 132 multiprocessors: 12 us for 8.07 million samples with four bytes per voxel, 10 us with two. It is scaled by the
number of multiprocessors.
"""

import inspect
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fluoro_reg.rendering import TorchRenderer
from fluoro_reg.rendering.rays import ViewGeometry, march_axes, rays_of_views
from render_bench.contenders import backends, make_renderer
from render_bench.oracle import enter_and_leave, rays_of_pixels
from render_bench.scene import Scene
from render_bench.timing import stopwatch, time_in_turn

_BATCHES = (1, 8, 64)
_VOXELS = {"fp32": torch.float32, "fp16": torch.float16}
_REFERENCE_S, _REFERENCE_SAMPLES, _REFERENCE_PROCESSORS = {"fp32": 12e-6, "fp16": 10e-6}, 8.07e6, 132
_COPIED_BYTES, _CALLS = 1 << 28, 10


def per_view(scene: Scene, device: str, rounds: int, budget_s: float, multiprocessors: int) -> dict[str, Any]:
    """Return copy bandwidth, samples per view, and for each entry the median and the lower bound in microseconds per view."""
    works = {"copy": _copy(device)}
    for backend in backends(device):
        for voxels in _VOXELS:
            works |= _works(scene, device, backend, voxels)
    runs = time_in_turn(works, rounds, budget_s, stopwatch(device))
    seconds = {name: statistics.median(times) / _CALLS for name, times in runs.items()}
    bandwidth = 2 * _COPIED_BYTES / seconds.pop("copy")
    low, high = _occupied_box(scene)
    samples, voxels_read = _samples(scene, low, high), float((high - low).prod())
    views = {}
    for name, value in seconds.items():
        _, output, batch_name, voxels = name.split("/")
        batch = int(batch_name.removeprefix("batch"))
        written = 4 * scene.camera.width * scene.camera.height * (7 if output == "image+jacobian" else 1)
        memory_s = (written + voxels_read * _VOXELS[voxels].itemsize / batch) / bandwidth
        cache_s = _REFERENCE_S[voxels] * samples / _REFERENCE_SAMPLES * _REFERENCE_PROCESSORS / multiprocessors
        views[name] = {"microseconds": 1e6 * value / batch, "floor_microseconds": 1e6 * max(memory_s, cache_s)}
    return {"copy_bytes_per_second": bandwidth, "samples_per_view": samples, "views": views}


def _works(scene: Scene, device: str, backend: str, voxels: str) -> dict[str, Callable[[], object]]:
    """Return the functions to time for a backend; none if it cannot store voxels of that type."""
    kind = backends(device)[backend]
    if voxels != "fp32" and (kind is TorchRenderer or "dtype" not in inspect.signature(kind).parameters):
        return {}  # the reference would also compute in half precision
    renderer = make_renderer(kind, scene, device, dtype=_VOXELS[voxels])
    geometry = ViewGeometry.from_volume(scene.volume, scene.camera, device)
    works = {}
    for batch in _BATCHES:
        poses = scene.poses(batch)
        axes = march_axes(rays_of_views(scene.volume, poses, scene.camera), scene.volume.shape_ijk)
        rays = geometry.rays(poses.to(device), torch.tensor(axes, dtype=torch.int32, device=device))
        tangents = geometry.twist_tangents(poses.to(device), scene.pivot.to(device))
        calls = {
            "image": lambda r=renderer, rays=rays: r.integrals(rays),
            "image+jacobian": lambda r=renderer, rays=rays, t=tangents: r.jacobian(rays, t),
        }
        for output, call in calls.items():
            works[f"ours-{backend}/{output}/batch{batch}/{voxels}"] = _repeated(call)
    return works


def _repeated(call: Callable[[], object]) -> Callable[[], object]:
    def several() -> None:
        for _ in range(_CALLS):
            call()

    return several


def _copy(device: str) -> Callable[[], object]:
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _repeated(lambda: target.copy_(source))


def _occupied_box(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return the first voxel that is not air and the one after the last, along (i, j, k)."""
    occupied = scene.volume.attenuation.nonzero().flip(-1).double()
    return occupied.amin(0), occupied.amax(0) + 1


def _samples(scene: Scene, low: Tensor, high: Tensor) -> float:
    """Return the number of planes of the march axis that the view's rays cross within a box of voxels."""
    all_pixels = scene.pixels(scene.camera.width * scene.camera.height)
    source, directions, _ = rays_of_pixels(scene.volume, scene.camera_from_patient, scene.camera, all_pixels)
    enter, leave = enter_and_leave(source, directions, low - 1, high)
    axis = march_axes(rays_of_views(scene.volume, scene.camera_from_patient, scene.camera), scene.volume.shape_ijk)[0]
    return float(((leave - enter) * directions[:, axis].abs()).sum())
