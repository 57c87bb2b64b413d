"""Runs a worker that does nothing but own modules, until it is told to end or its parent has ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any, Final

from .ending import Ending
from .join import join, leave

JOINED: Final = "joined"
"""The answer of a spawned worker that has joined. If it cannot, it answers with the reason. It is a line of JSON."""
_LOOK: Final = 0.5  # seconds between two looks whether the parent lives
LEAVING: Final = 10.0
"""Seconds that the calls of a process of ours have to end."""
_ENDING: Final = 2.0  # seconds that leaving may take beyond that


def main(asked: dict[str, Any]) -> None:
    """Joins, says so, and waits for SIGTERM.

    Args:
        asked: "join": the arguments of `join`; "parent": the id of the process with which this one ends.
    """
    answers = int(sys.argv[1])
    ending = Ending()
    signal.signal(signal.SIGTERM, ending.request)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the parent may have blocked it, to wait for it
    threading.Thread(target=_end_with, args=(asked["parent"], ending), daemon=True).start()
    try:
        join(**asked["join"])
    except Exception as error:
        _answer(answers, str(error))
        sys.exit(1)
    _answer(answers, JOINED)
    os.close(answers)
    ending.wait()
    if not leave_in_time(LEAVING):
        os._exit(1)


def leave_in_time(seconds: float) -> bool:
    """Leaves the group. Says whether that is over; if not, a call goes on running, for which torch waits.

    Whoever calls it ends the process then, without Python's own end, which would wait, too.

    Args:
        seconds: that calls have to end.
    """
    leaving = threading.Thread(target=leave, kwargs={"timeout": seconds}, daemon=True)
    leaving.start()
    leaving.join(seconds + _ENDING)
    return not leaving.is_alive()


def _answer(answers: int, said: str) -> None:
    os.write(answers, json.dumps(said).encode() + b"\n")


def _end_with(parent: int, ending: Ending) -> None:
    """Ends this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    ending.request()
    time.sleep(LEAVING + _ENDING)
    os._exit(1)
