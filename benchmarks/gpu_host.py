"""Where the time of a tracked frame and of a registration goes besides rendering: on the host, or between host and GPU.

    python benchmarks/gpu_host.py [--device cuda] [--frames 40] [--cases 6] [--size 256] [--repeats 5] [--json]

Milliseconds per call, medians over the repeats. `cpu` is processor time of the process; `host` is what is left of it without
the passes that march rays, which run in `parallel_for` on a CPU. Operations are those that PyTorch's profiler sees. On a GPU,
it also sees how long the GPU is busy, how many kernels and copies run, and how often the host waits for it. Tracked frames are
those of the demo that show the patient; registrations are `lm-gradient-ncc` of some of these X-rays, from poses of 10 to 25 mm
mTRE.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from machine import machine, versions
from tracking_sequences import GOOD, simulated

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult, Tracker
from fluoro_reg.registration.tracking import passes
from fluoro_reg.rendering.backends.numba import renderer as numba_renderer
from fluoro_reg.rendering.features import projector as feature_projector
from fluoro_reg.xray.image import XrayImage

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
STARTS_MM = (10.0, 25.0)


@dataclass(slots=True)
class Passes:
    """Processor time in `parallel_for`."""

    seconds: float = 0.0
    _modules: tuple[Any, ...] = field(default=(passes, numba_renderer, feature_projector), init=False)

    @contextmanager
    def counted(self) -> Iterator[None]:
        originals = [module.parallel_for for module in self._modules]

        def timed(original: Callable[..., None]) -> Callable[..., None]:
            def parallel_for(work: Callable[[int, int], None], count: int) -> None:
                begin = time.process_time()
                original(work, count)
                self.seconds += time.process_time() - begin

            return parallel_for

        try:
            for module, original in zip(self._modules, originals, strict=True):
                module.parallel_for = timed(original)
            yield
        finally:
            for module, original in zip(self._modules, originals, strict=True):
                module.parallel_for = original


@dataclass(frozen=True, slots=True)
class Times:
    """Of one call."""

    wall: float
    cpu: float
    host: float
    result: RegistrationResult


def timed_call(call: Callable[[], RegistrationResult]) -> Times:
    rendering = Passes()
    with rendering.counted():
        begin, begin_cpu = time.perf_counter(), time.process_time()
        result = call()
        cpu, wall = time.process_time() - begin_cpu, time.perf_counter() - begin
    return Times(wall, cpu, cpu - rendering.seconds, result)


def operations(calls: list[Callable[[], RegistrationResult]], device: str) -> dict[str, float]:
    """What PyTorch's profiler sees of some calls, per call."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as seen:
        for call in calls:
            call()
        if device == "cuda":
            torch.cuda.synchronize()
    events, n = seen.key_averages(), len(calls)
    found = {"operations": sum(event.count for event in events if event.key.startswith("aten::")) / n}
    if device == "cuda":
        on_gpu = [event for event in events if str(event.device_type).endswith("CUDA")]
        found |= {
            "gpu_busy_ms": sum(event.self_device_time_total for event in on_gpu) / 1000 / n,
            "gpu_kernels": sum(event.count for event in on_gpu) / n,
            "launches": sum(event.count for event in events if "Launch" in event.key) / n,
            "waits": sum(event.count for event in events if event.key.startswith(WAITS)) / n,
            "copies_to_gpu": sum(event.count for event in on_gpu if event.key.startswith("Memcpy HtoD")) / n,
            "copies_to_host": sum(event.count for event in on_gpu if event.key.startswith("Memcpy DtoH")) / n,
        }
    return found


def summary(times: list[Times], seen: dict[str, float]) -> dict[str, Any]:
    stages = sorted({name for one in times for name in one.result.seconds})
    return {
        "calls": len(times),
        "accepted": sum(one.result.accepted for one in times),
        "renders": statistics.median(one.result.n_renders for one in times),
        **{f"{name}_ms": 1000 * statistics.median(getattr(one, name) for one in times) for name in ("wall", "cpu", "host")},
        **seen,
        "stages_ms": {name: 1000 * statistics.median([one.result.seconds.get(name, 0.0) for one in times]) for name in stages},
    }


def tracked(registrar: Registrar, frames: list[Any], initial: RigidTransform, device: str, repeats: int) -> dict[str, Any]:
    """Frames of the demo after the first ten, which warm up."""

    def calls_after_warm_up() -> list[Callable[[], Any]]:
        tracker = Tracker(registrar, initial)
        for frame in frames[:10]:
            tracker.update(frame.xray, frame.stamp_ns)
        return [partial(tracker.update, frame.xray, frame.stamp_ns) for frame in frames[10:]]

    times = [timed_call(call) for _ in range(repeats) for call in calls_after_warm_up()]
    return summary(times, operations(calls_after_warm_up(), device))


def registered(
    registrar: Registrar, xrays: list[tuple[XrayImage, RigidTransform]], device: str, repeats: int
) -> dict[str, Any]:
    calls = [lambda xray=xray, pose=pose: registrar.register(xray, pose) for xray, pose in xrays]
    for call in calls:
        call()
    times = [timed_call(call) for _ in range(repeats) for call in calls]
    return summary(times, operations(calls, device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    volume, sequence = next(iter(simulated(["demo"], arguments.frames, arguments.size)))
    registrar = Registrar(volume, RegistrationOptions(device=arguments.device))
    good = [frame for frame in sequence.frames if frame.kind == GOOD and frame.truth is not None]
    pivot = registrar.readings.whole.model.pivot
    chosen = good[:: max(1, len(good) // arguments.cases)][: arguments.cases]
    generator, points = torch.Generator().manual_seed(3), sequence.points_patient
    distances = torch.linspace(*STARTS_MM, len(chosen)).tolist()
    xrays = [
        (frame.xray, perturb_to_mtre(frame.truth, points, mm, pivot, generator))
        for frame, mm in zip(chosen, distances, strict=True)
        if frame.truth is not None
    ]
    record = {
        "machine": machine(arguments.device),
        "versions": versions("torch", "triton", "numba", "numpy"),
        "device": arguments.device,
        "tracked frame": tracked(registrar, good, sequence.initial_pose, arguments.device, arguments.repeats),
        "registration": registered(registrar, xrays, arguments.device, arguments.repeats),
    }
    if arguments.json:
        print(json.dumps(record, indent=1))
        return
    rows = [name for name in record["tracked frame"] if name != "stages_ms"]
    print("| | tracked frame | registration |\n|---|--:|--:|")
    for row in rows:
        print(f"| {row} | {record['tracked frame'][row]:.1f} | {record['registration'][row]:.1f} |")
    for name in sorted(record["tracked frame"]["stages_ms"] | record["registration"]["stages_ms"]):
        pair = (record[what]["stages_ms"].get(name, 0.0) for what in ("tracked frame", "registration"))
        print(f"| {name}, ms | " + " | ".join(f"{value:.1f}" for value in pair) + " |")


if __name__ == "__main__":
    main()
