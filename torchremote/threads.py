"""Starts threads of which a process needs one each, and which end with it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class OneThread:
    """Runs a function in a thread of its own, which is started when it is needed first.

    A signal's handler may raise at any instruction of `start`, even when the thread has just begun. So `start` notes
    nothing: the thread itself says that it runs. If a second one was started, it ends at once.
    """

    def __init__(self, run: Callable[[], None], name: str) -> None:
        self._run, self._name = run, name
        self._running = threading.Lock()  # is held by the thread that runs

    def start(self) -> None:
        """Starts the thread, unless it runs. Raises RuntimeError if this process can start no more."""
        if not self._running.locked():
            threading.Thread(target=self._run_alone, name=self._name, daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Says whether the thread has begun, and has not ended."""
        return self._running.locked()

    def _run_alone(self) -> None:
        if self._running.acquire(blocking=False):
            try:
                self._run()
            finally:
                self._running.release()

    def wait(self, seconds: float) -> None:
        """Waits until the thread has ended, for so many seconds at most."""
        if self._running.acquire(timeout=seconds):
            self._running.release()

    def forget(self) -> None:
        """Has the thread be started anew in a forked process, which does not have it."""
        self._running = threading.Lock()
