"""The type of the callbacks that report progress."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (steps done, total number of steps)."""
