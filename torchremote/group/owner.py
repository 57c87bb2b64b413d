"""Runs a worker that does nothing but own modules, until it is told to end or its parent has ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any, Final

from .join import join, leave

JOINED: Final = "joined"
"""The answer of a spawned worker that has joined. If it cannot, it answers with the reason."""
_LOOK: Final = 0.5  # seconds between two looks whether the parent lives
_LEAVING: Final = 10.0  # seconds that leaving may take when the parent is gone
_LONGEST_WAIT: Final = 0.5  # seconds


def main(asked: dict[str, Any]) -> None:
    """Joins, says so, and waits for SIGTERM.

    Args:
        asked: "join": the arguments of `join`; "parent": the id of the process with which this one ends.
    """
    answers = int(sys.argv[1])
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    threading.Thread(target=_end_with, args=(asked["parent"], told), daemon=True).start()
    try:
        join(**asked["join"])
    except Exception as error:
        os.write(answers, str(error).encode())
        sys.exit(1)
    os.write(answers, JOINED.encode())
    os.close(answers)
    while not told.wait(_LONGEST_WAIT):  # a signal that another thread got does not wake this one
        pass
    leave()


def _end_with(parent: int, told: threading.Event) -> None:
    """Ends this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    told.set()
    time.sleep(_LEAVING)
    os._exit(1)
