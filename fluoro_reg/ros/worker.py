"""A worker thread with a mailbox for one item.

Registration is slower than a camera, so only the newest image is registered: a queue would publish increasingly old poses. The
thread keeps the executor free for services and transitions.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestWorker(Generic[Item]):
    """Calls `work` with the newest item, in its own thread. `work` must not raise, since nothing would catch it."""

    def __init__(self, work: Callable[[Item], None], name: str) -> None:
        self._work = work
        self._name = name
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._running = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        """Start the thread with an empty mailbox."""
        self._item, self._running = None, True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Replace the item in the mailbox; a replaced item counts as dropped."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def clear(self) -> None:
        """Empty the mailbox; a removed item counts as dropped."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = None

    def stop(self, timeout_s: float) -> bool:
        """Empty the mailbox and wait for the current item; return False if that takes longer than the timeout."""
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
