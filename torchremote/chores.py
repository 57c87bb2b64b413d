"""Runs chores on a daemon thread, the sweeper: some once and soon, others regularly. Owners and callers have some.

Note [Finalisers]
    A finaliser runs where the last reference is dropped. That may be inside a function that holds a lock, so a
    finaliser must not take one. It puts its chore on a SimpleQueue, which is made for that, and this thread does it.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from .locks import new_lock
from .threads import OneThread, at_work

INTERVAL: Final = 2.5
"""Seconds between two rounds of the regular chores."""

_LONGEST_CHORES: Final = 30.0
"""Seconds for which the end of Python waits for the chores that are left."""

Chore = Callable[[], None]
_log = logging.getLogger("torchremote")

_soon: queue.SimpleQueue[Chore | None] = queue.SimpleQueue()  # None: stop
_regularly: list[Chore] = []
_lock = new_lock()


def soon(chore: Chore) -> None:
    """Gives the thread a chore. Starts no thread and takes no lock, so a finaliser may call it."""
    _soon.put(chore)


def regularly(chore: Chore) -> None:
    """Adds a chore for every `INTERVAL`, and starts the thread."""
    with _lock:
        if chore not in _regularly:
            _regularly.append(chore)
    start()


def start() -> None:
    """Starts the thread, unless it runs. What `soon` was given is done from then on."""
    if not _thread.is_running:
        _stop_at_exit()
        _thread.start()


def _run() -> None:
    due = time.monotonic() + INTERVAL
    while True:
        with suppress(queue.Empty):
            chore = _soon.get(timeout=max(0.0, due - time.monotonic()))
            if chore is None:
                return
            _do(chore)
        if time.monotonic() >= due:
            for chore in _regularly:
                _do(chore)
            due = time.monotonic() + INTERVAL


def _do(chore: Chore) -> None:
    """Does a chore, and logs its exception."""
    try:
        with at_work():
            chore()
    except BaseException:  # see owner/create.py, Note [What is no Exception]
        _log.exception("torchremote's sweeper goes on after this failed")


_thread: Final = OneThread(_run, "torchremote-sweeper")
os.register_at_fork(after_in_child=_thread.forget)


@functools.cache
def _stop_at_exit() -> None:
    atexit.register(_stop)  # a thread that is inside torch when the interpreter ends would abort the process


def _stop() -> None:
    _soon.put(None)
    _thread.wait(_LONGEST_CHORES)
