"""Interruption of a training at a given step, as by Ctrl-C."""

from collections.abc import Callable
from typing import Any

from fluoro_reg.training.loop import Progress


class InterruptedTrainingError(Exception):
    """Stands for Ctrl-C."""


def interrupt_at(step: int) -> Callable[[Progress[Any]], None]:
    """Return a progress callback that interrupts the training after a step."""

    def interrupt(progress: Progress[Any]) -> None:
        if progress.step == step:
            raise InterruptedTrainingError

    return interrupt
