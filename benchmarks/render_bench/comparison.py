"""Comparison of all contenders on the same image: agreement and accuracy first, then memory, then time."""

import pickle
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from render_bench.contenders import Contender
from render_bench.entries import entries_of, ratios_to_ours, work_of
from render_bench.fidelity import agreement, image_error
from render_bench.memory import memory_of
from render_bench.oracle import exact_integrals
from render_bench.scene import Scene
from render_bench.timing import stopwatch, time_in_turn


@dataclass(frozen=True)
class Effort:
    """The extent of the measurements: rounds and seconds for each entry, and rays to compare with exact integrals."""

    rounds: int
    budget_s: float
    rays: int


@dataclass
class Comparison:
    """The results.

    By entry: medians, all counted runs, ratios, memory, and why it was not run. By contender: accuracy and agreement with ours.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    runs: dict[str, list[float]] = field(default_factory=dict)
    ratio_to_ours: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    agreement: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(scene: Scene, makers: dict[str, Callable[[Scene], Contender]], effort: Effort) -> Comparison:
    """Measure the comparable contenders; the first one is the reference of the agreement."""
    result = Comparison()
    ready = set_up(scene, makers, result)
    pixels = scene.pixels(effort.rays)
    exact = exact_integrals(scene.volume, scene.camera_from_patient, scene.camera, pixels)
    for name, contender in ready.items():
        result.accuracy[name] = {"image_rms": image_error(contender, pixels, exact)}
    with tempfile.TemporaryDirectory() as folder:
        scene_file = Path(folder) / "scene.pickle"
        scene_file.write_bytes(pickle.dumps(scene))
        for name, contender in ready.items():
            _log(f"memory of {name}")
            measured, skipped = memory_of(name, contender, scene_file)
            result.memory_bytes |= measured
            result.not_run |= skipped
    entries = [(e, contender) for name, contender in ready.items() for e in entries_of(name, contender)]
    works = {e.name: work_of(e, contender) for e, contender in entries if e.name not in result.not_run}
    _log(f"{len(works)} entries in turn")
    device = next(iter(ready.values())).device
    result.runs = time_in_turn(works, effort.rounds, effort.budget_s, stopwatch(device))
    result.seconds = {name: statistics.median(times) for name, times in result.runs.items()}
    result.ratio_to_ours = ratios_to_ours(result.seconds)
    return result


def set_up(scene: Scene, makers: dict[str, Callable[[Scene], Contender]], result: Comparison) -> dict[str, Contender]:
    """Return the contenders whose images agree; record in `result` how well they agree, and why the others were left out."""
    ready: dict[str, Contender] = {}
    for name, make in makers.items():
        _log(f"setting up {name}")
        try:
            contender = make(scene)
            measured = agreement(contender, next(iter(ready.values()), contender))
        except Exception as error:  # peers may fail in any way
            if name.startswith("ours-"):
                raise
            result.not_run[name] = f"not set up: {type(error).__name__}: {error}"
            continue
        result.agreement[name] = asdict(measured) | {"comparable": measured.comparable}
        if measured.comparable:
            ready[name] = contender
        else:
            result.not_run[name] = (
                f"not comparable: its image is {measured.difference:.1e} from ours; {measured.allowed:.1e} is allowed"
            )
    return ready


def _log(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
