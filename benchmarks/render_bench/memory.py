"""How much memory an entry needs at its peak beyond what was there before the call: output, graph and temporaries.

An entry runs once to have everything in place that its renderer keeps (copies of the volume, compiled code), then once more
to be measured. On CUDA torch's allocator knows the peak. On the CPU all this happens in a fresh process for each contender,
and the kernel's record of the largest resident set is cleared between the two runs. A batch that by the memory of a single
view would not fit into the machine is not run. Needs Linux (`/proc/self/clear_refs`); elsewhere CPU memory is not measured.
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

_CLEAR, _STATUS, _MACHINE = Path("/proc/self/clear_refs"), Path("/proc/self/status"), Path("/proc/meminfo")
# Blocks from 64 kB on are mapped on their own: what was freed before the call then cannot hide what the call takes.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
_FRACTION = 0.7  # of what is available, for one entry

Measured = dict[str, int]
Refused = dict[str, str]


def memory_of(name: str, contender: Contender, scene_file: Path) -> tuple[Measured, Refused]:
    """Bytes of each entry of a contender, and the entries that must not be run, with the reason."""
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
        why = (child.stderr.strip().splitlines() or ["killed, as when memory runs out"])[-1]
        return {}, {entry.name: f"failed in a process of its own: {why}" for entry in entries}
    measured, refused = json.loads(child.stdout.splitlines()[-1])
    return measured, refused


def _measure(
    entries: list[Entry], contender: Contender, bytes_of: Callable[[Callable[[], object]], int], available: Callable[[], int]
) -> tuple[Measured, Refused]:
    measured: Measured = {}
    refused: Refused = {}
    for entry in sorted(entries, key=lambda entry: entry.batch):
        expected = entry.batch * measured.get(Entry(entry.contender, entry.row, 1).name, 0)
        if expected > _FRACTION * available():
            refused[entry.name] = f"needs about {expected / 1e9:.0f} GB of memory"
        else:
            measured[entry.name] = bytes_of(work_of(entry, contender))
    return measured, refused


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
    return max(os.sysconf("SC_PAGE_SIZE"), _field(_STATUS, "VmHWM:") - before)  # nothing finer than a page can be seen


def _field(table: Path, name: str) -> int:
    """A field of one of the kernel's tables, in bytes."""
    line = next(line for line in table.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _main(name: str, scene_file: str) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")  # should memory run out, this process is the one to go
    with Path(scene_file).open("rb") as file:
        scene: Scene = pickle.load(file)
    contender = contenders("cpu", installed_peers())[name](scene)
    print(json.dumps(_measure(entries_of(name, contender), contender, _cpu_bytes, lambda: _field(_MACHINE, "MemAvailable:"))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
