"""What a run of the demo shows while it runs; `fluoro_reg.cli.demo_screen` is the terminal's."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoro_reg.demo.assessment import FrameRecord


class AbstractScreen(ABC):
    """Steps with their times, and one line a frame."""

    @abstractmethod
    def step(self, what: str, total: int | None = None) -> AbstractContextManager[Callable[[int, int], None]]:
        """A step that takes a while; gives a function (done, of) that reports its progress."""

    @abstractmethod
    def frames(self, total: int) -> AbstractContextManager[Callable[["FrameRecord"], None]]:
        """The frames as they are answered; gives a function that shows one."""

    @abstractmethod
    def pause(self) -> None:
        """A gap before what follows."""
