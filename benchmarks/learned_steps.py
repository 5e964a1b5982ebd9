"""What a step of a training costs: processor time, and operations that are issued one by one, which is what a GPU waits for.

    python benchmarks/learned_steps.py CT --range config/carm.yaml

One row for each training, with the settings of a CPU and with those of a GPU, on the CPU. Columns: images in a step; the time
before the first step; then, for making the images of a step, for the step itself and for a validation, processor time in ms and
torch's operations, views left out. The images of steps that are made at once are divided among them.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fluoro_reg.carm.range import CarmRange, load_range
from fluoro_reg.config import from_mapping
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.training.device_defaults import regressor_defaults, similarity_defaults
from fluoro_reg.training.loop import AbstractTraining
from fluoro_reg.training.options import TrainingOptions
from fluoro_reg.training.similarity import SimilarityTraining, SimilarityTrainingOptions
from fluoro_reg.training.trainer import RegressorTraining

COMMON = {"steps": 100, "validation_images": 64}
VIEWS = ("view", "expand", "slice", "select", "permute", "transpose", "unsqueeze", "squeeze", "alias", "detach", "t.", "unbind")


class Counter(TorchDispatchMode):
    """Counts the operations of the current thread that do more than look at memory in another way."""

    count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        name = operation.name().removeprefix("aten::")
        self.count += not name.lstrip("_").removeprefix("unsafe_").startswith(VIEWS)
        return operation(*arguments, **(keywords or {}))


def cost(work: Callable[[int], Any], repetitions: int, divided_by: int = 1) -> str:
    """Processor time in ms and operations of `work`, which is called with numbers."""
    with Counter() as counter:
        work(0)
    begin = time.process_time()
    for number in range(1, repetitions + 1):
        work(number)
    ms = 1e3 * (time.process_time() - begin) / repetitions / divided_by
    return f"{ms:.0f} | {counter.count / divided_by:.0f}"


def trainings(volume: CTVolume, carm: CarmRange) -> Iterator[tuple[str, Callable[[], AbstractTraining]]]:
    """Yield the name of each training and what makes it."""
    for device in ("cpu", "cuda"):
        options = from_mapping(TrainingOptions, {**COMMON, **regressor_defaults(device)})
        yield f"regressor, sizes of {device}", lambda options=options: RegressorTraining(volume, carm, options)
        for kind in ("prost", "spherical"):
            similarity = from_mapping(SimilarityTrainingOptions, {**COMMON, **similarity_defaults(device), "kind": kind})
            yield f"{kind}, sizes of {device}", lambda options=similarity: SimilarityTraining(volume, carm, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--range", default="config/carm.yaml")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the rows whose names contain this text")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    volume, carm = read_ct(arguments.ct), load_range(arguments.range)
    print("| training | images | setup, s | images, ms | operations | step, ms | operations | validation, ms | operations |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, make in trainings(volume, carm):
        if arguments.only not in name:
            continue
        training = make()
        batches = [batch for number in range(2) for batch in training.batches(number)]
        training._step(batches[0], 0.1)
        training.validate(0.0)  # waits for the X-rays, which would count otherwise
        rows = (
            cost(training.batches, max(1, arguments.repetitions // training.options.ahead), training.options.ahead),
            cost(lambda number: training._step(batches[number % len(batches)], 0.1), arguments.repetitions),  # noqa: B023
            cost(lambda number: training.validate(0.0), 1),  # noqa: B023
        )
        print(f"| {name} | {training.options.batch} | {training.durations.setup_s:.1f} | {' | '.join(rows)} |", flush=True)


if __name__ == "__main__":
    main()
