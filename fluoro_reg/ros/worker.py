"""One thread and a mailbox for one item: registration is slower than a camera, and only the newest image is worth its time.

A queue would publish ever older poses; the executor's thread must stay free for services and transitions.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestWorker(Generic[Item]):
    """Calls `work` with the newest item, in a thread of its own. `work` must not raise: there is nobody to catch it."""

    def __init__(self, work: Callable[[Item], None], name: str) -> None:
        self._work = work
        self._name = name
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._running = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        """Starts with an empty mailbox."""
        self._item, self._running = None, True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Replaces what waits in the mailbox; the replaced item is counted as dropped."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def clear(self) -> None:
        """Empties the mailbox; what waited is counted as dropped."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = None

    def stop(self, timeout_s: float) -> bool:
        """Empties the mailbox and waits for the item in work; False when that does not end in time."""
        if self._thread is None:
            return True
        with self._changed:
            self._running, self._item = False, None
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._item is not None or not self._running)
                if not self._running or self._item is None:
                    return
                item, self._item = self._item, None
            self._work(item)
