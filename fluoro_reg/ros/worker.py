"""A worker thread with a mailbox for one item.

Registration is slower than a camera, so only the newest image is registered: a queue would publish increasingly old poses. The
thread keeps the executor free for services and transitions.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestWorker(Generic[Item]):
    """Calls `work` with the newest item, in its own thread, and `when_idle` after `wake` unless an item has come.

    Neither must raise, since nothing would catch it.
    """

    def __init__(self, work: Callable[[Item], None], name: str, when_idle: Callable[[], None] = lambda: None) -> None:
        self._work, self._when_idle = work, when_idle
        self._name = name
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._running = self._woken = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        """Start the thread with an empty mailbox."""
        self._item, self._running, self._woken = None, True, False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Replace the item in the mailbox; a replaced item counts as dropped."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def wake(self) -> None:
        """Ask for a call of `when_idle`."""
        with self._changed:
            self._woken = True
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
                self._changed.wait_for(lambda: self._item is not None or self._woken or not self._running)
                if not self._running:
                    return
                item, self._item, self._woken = self._item, None, False
            if item is None:
                self._when_idle()
            else:
                self._work(item)
