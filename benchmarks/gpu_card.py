"""The card, and the bandwidth that it reaches: the floor against which other figures are read.

    python benchmarks/gpu_card.py [--json]

A copy of 1 GiB is timed with CUDA events, ten times after a warm-up; it reads and writes every byte once. Without a card the
same copy is timed on the CPU, so that the program can be tried anywhere.
"""

import argparse
import json
import statistics
import time
from typing import Any

import torch
from machine import machine, versions

BYTES, ROUNDS = 1 << 30, 10


def copy_seconds(device: str, size: int) -> float:
    """Return the median duration of a copy of `size` bytes."""
    source = torch.empty(size // 4, dtype=torch.float32, device=device).uniform_()
    target, seconds = torch.empty_like(source), []
    for _ in range(ROUNDS + 2):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            target.copy_(source)
            end.record()
            end.synchronize()
            seconds.append(begin.elapsed_time(end) / 1000)
        else:
            begin_s = time.perf_counter()
            target.copy_(source)
            seconds.append(time.perf_counter() - begin_s)
    return statistics.median(seconds[2:])


def record() -> dict[str, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = BYTES if device == "cuda" else BYTES // 16
    bandwidth = 2 * size / copy_seconds(device, size) / 1e9
    return {
        "machine": machine(device),
        "versions": versions("torch", "triton", "numba", "numpy"),
        "device": device,
        "copy_gb_per_second": bandwidth,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    arguments = parser.parse_args()
    result = record()
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in {**result["machine"], **result["versions"], "copy": f"{result['copy_gb_per_second']:.0f} GB/s"}.items():
        print(f"- {name}: {value}")


if __name__ == "__main__":
    main()
