"""Lets a process wait for the request to end: by a signal, by another worker, or because its parent has ended."""

from __future__ import annotations

import time
from typing import Final

_LOOK: Final = 0.1  # seconds between two looks


class Ending:
    """Knows whether the process is to end.

    It is no Event: a signal's handler runs in the thread that waits for it, which may hold the Event's lock just then.
    """

    def __init__(self) -> None:
        self._is_requested = False

    def request(self, *signal: object) -> None:
        """Asks the process to end. It may be the handler of a signal."""
        self._is_requested = True

    def wait(self) -> None:
        """Returns when the process is to end. Handlers of signals run meanwhile."""
        while not self._is_requested:
            time.sleep(_LOOK)
