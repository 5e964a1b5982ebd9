"""Peak memory of an entry beyond what was allocated before the call: output, graph and temporaries.

An entry runs once, so that everything its renderer keeps is in place (copies of the volume, compiled code), and a second time
to be measured. On CUDA, torch's allocator knows the peak. On the CPU, this happens in a new process for each contender, and the
kernel's record of the maximum resident set size is cleared between the two runs. A batch is skipped if, judging by the memory
of a single view, it would not fit into the machine. Needs Linux (`/proc/self/clear_refs`); elsewhere CPU memory is not
measured.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from render_bench.contenders import Contender, contenders, installed_peers
from render_bench.entries import Entry, entries_of, work_of
from render_bench.scene import Scene

_CLEAR, _STATUS, _MEMINFO = Path("/proc/self/clear_refs"), Path("/proc/self/status"), Path("/proc/meminfo")
# Blocks of 64 kB or more are mapped separately, so that memory freed before the call cannot hide what the call needs.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
_MAX_MEMORY_FRACTION = 0.7  # of the available memory, for one entry

Measured = dict[str, int]
Skipped = dict[str, str]


def memory_of(name: str, contender: Contender, scene_file: Path) -> tuple[Measured, Skipped]:
    """Return the bytes of each entry of a contender, and the entries that must be skipped, with reasons."""
    entries = entries_of(name, contender)
    if contender.device == "cuda":
        return _measure(entries, contender, _cuda_bytes, lambda: torch.cuda.mem_get_info()[0])
    if not _CLEAR.exists():
        return {}, {}
    search = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, search))}
    command = [sys.executable, "-m", "render_bench.memory", name, str(scene_file)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    if child.returncode != 0:
        why = (child.stderr.strip().splitlines() or ["killed, possibly out of memory"])[-1]
        return {}, {entry.name: f"failed in a separate process: {why}" for entry in entries}
    measured, skipped = json.loads(child.stdout.splitlines()[-1])
    return measured, skipped


def _measure(
    entries: list[Entry], contender: Contender, bytes_of: Callable[[Callable[[], object]], int], available: Callable[[], int]
) -> tuple[Measured, Skipped]:
    measured: Measured = {}
    skipped: Skipped = {}
    for entry in sorted(entries, key=lambda entry: entry.batch):
        expected = entry.batch * measured.get(Entry(entry.contender, entry.row, 1).name, 0)
        if expected > _MAX_MEMORY_FRACTION * available():
            skipped[entry.name] = f"needs about {expected / 1e9:.0f} GB of memory"
        else:
            measured[entry.name] = bytes_of(work_of(entry, contender))
    return measured, skipped


def _cuda_bytes(work: Callable[[], object]) -> int:
    work()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _cpu_bytes(work: Callable[[], object]) -> int:
    work()
    before = _field(_STATUS, "VmRSS:")
    _CLEAR.write_text("5")
    work()
    return max(os.sysconf("SC_PAGE_SIZE"), _field(_STATUS, "VmHWM:") - before)  # the resolution is one page


def _field(table: Path, name: str) -> int:
    """Return a field of one of the kernel's tables, in bytes."""
    line = next(line for line in table.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _main(name: str, scene_file: str) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process is killed first
    with Path(scene_file).open("rb") as file:
        scene: Scene = pickle.load(file)
    contender = contenders("cpu", installed_peers())[name](scene)
    print(json.dumps(_measure(entries_of(name, contender), contender, _cpu_bytes, lambda: _field(_MEMINFO, "MemAvailable:"))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
