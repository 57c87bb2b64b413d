"""Finds out whether processes have ended, and how.

Note [Ctrl-C and processes]
    `Popen.poll`, `wait`, `kill` and `terminate` take a lock of the `Popen`, in Python. A handler of a signal that
    raises just then leaves the lock taken for ever, and `Popen.wait` without a timeout waits for it for ever. So the
    main thread calls none of them. It asks the system whether the process has ended, which takes no lock and leaves its
    exit status there. Then the status is taken where no handler runs, in `uninterrupted`. Nothing waits there without
    limit, because Ctrl-C cannot end it.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Final

from ..locks import uninterrupted

_LONGEST_NAP: Final = 0.05  # seconds between two looks of `wait_for_end`, which returns soon after the end
ENDING: Final = 5.0  # seconds that a killed process may take to end, as where it reads from a disk

may_run: set[subprocess.Popen[bytes]] = set()
"""Those that were spawned and may run still: Python warns of one that is let go while it runs."""


def forget_ended() -> None:
    """Lets go of the processes that have ended."""
    may_run.difference_update([process for process in tuple(may_run) if process.poll() is not None])


def has_ended(process: subprocess.Popen[bytes], options: int = os.WNOHANG) -> bool:
    """Says whether a process has ended. Without `os.WNOHANG`, it waits for that.

    It takes no lock, and not the status: see Note [Ctrl-C and processes].
    """
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | options) is not None
    except ChildProcessError:  # somebody took its status
        return True


def wait_for_end(process: subprocess.Popen[bytes], timeout: float | None) -> bool:
    """Waits for a process to end. Returns False if it does not within `timeout` seconds."""
    if timeout is None:
        return has_ended(process, options=0)
    until, nap = time.monotonic() + timeout, 0.001
    while not has_ended(process):
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(nap, left))
        nap = min(2 * nap, _LONGEST_NAP)
    return True


def status_of(process: subprocess.Popen[bytes]) -> int:
    """Returns the exit status of a process that has ended."""
    if process.returncode is None:
        uninterrupted(lambda: process.wait(ENDING))  # it is there, if no other thread is just taking it
    status: int = process.returncode
    return status
