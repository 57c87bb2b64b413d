"""Lets a process wait until it is told to end: by a signal, by another worker, or because its parent has ended."""

from __future__ import annotations

import time
from typing import Final

_LOOK: Final = 0.1  # seconds between two looks


class Told:
    """Knows whether the process was told to end.

    It is no Event: a signal's handler runs in the thread that waits for it, which may hold the Event's lock just then.
    """

    def __init__(self) -> None:
        self._is_told = False

    def tell(self, *signal: object) -> None:
        """Tells the process to end. It may be the handler of a signal."""
        self._is_told = True

    def wait(self) -> None:
        """Returns when the process was told to end. Handlers of signals run meanwhile."""
        while not self._is_told:
            time.sleep(_LOOK)
