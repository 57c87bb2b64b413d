"""Runs chores on a daemon thread of the owner: some once and soon, others regularly.

Note [Finalisers]
    A finaliser runs where the last reference is dropped. That may be inside a function that holds a lock, so a
    finaliser must not take one. It puts its chore on a SimpleQueue, which is made for that, and this thread does it.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ..locks import new_lock

INTERVAL: Final = 2.5
"""Seconds between two rounds of the regular chores."""

Chore = Callable[[], None]
_log = logging.getLogger("torchremote")


class _Sweeper:
    """A thread, and its chores."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Chore | None] = queue.SimpleQueue()  # None: stop
        self._regularly: list[Chore] = []
        self._thread: threading.Thread | None = None
        self._lock = new_lock()

    def soon(self, chore: Chore) -> None:
        """Gives the thread a chore. Takes no lock, so a finaliser may call it."""
        self._queue.put(chore)

    def regularly(self, chore: Chore) -> None:
        """Adds a chore for every `INTERVAL`, and starts the thread."""
        with self._lock:
            if chore not in self._regularly:
                self._regularly.append(chore)
        self.start()

    def start(self) -> None:
        """Starts the thread, unless it runs. What `soon` was given is done from then on."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # a forked process has no thread
                self._thread = threading.Thread(target=self._run, name="torchremote-sweeper", daemon=True)
                self._thread.start()
                # A thread that is inside torch when the interpreter ends would abort the process.
                atexit.register(self._stop)

    def _run(self) -> None:
        due = time.monotonic() + INTERVAL
        while True:
            with suppress(queue.Empty):
                chore = self._queue.get(timeout=max(0.0, due - time.monotonic()))
                if chore is None:
                    return
                self._do(chore)
            if time.monotonic() >= due:
                for chore in self._regularly:
                    self._do(chore)
                due = time.monotonic() + INTERVAL

    def _do(self, chore: Chore) -> None:
        """Does a chore, and logs its exception."""
        try:
            chore()
        except Exception:
            _log.exception("torchremote's sweeper goes on after this failed")

    def _stop(self) -> None:
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()


_sweeper = _Sweeper()
soon: Callable[[Any], None] = _sweeper.soon
regularly: Callable[[Any], None] = _sweeper.regularly
start: Callable[[], None] = _sweeper.start
