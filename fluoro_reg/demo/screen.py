"""The interface through which a running demo shows its progress; `fluoro_reg.cli.demo_screen` implements it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fluoro_reg.progress import Progress

if TYPE_CHECKING:
    from fluoro_reg.demo.assessment import FrameRecord


class AbstractScreen(ABC):
    """Shows the steps of the demo and its frames."""

    @abstractmethod
    def step(self, what: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Show a step within the context, which yields a progress callback."""

    @abstractmethod
    def frames(self, total: int) -> AbstractContextManager[Callable[["FrameRecord"], None]]:
        """Show the frames within the context, which yields a function that shows one frame."""

    @abstractmethod
    def pause(self) -> None:
        """Separate the following output from the previous one."""
