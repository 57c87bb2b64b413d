"""Keeps the time: a thread of ours calls functions when it is time, and ends waits at their deadlines."""

from __future__ import annotations

import atexit
import contextlib
import heapq
import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import torch

from ... import _torch
from ...errors import NotInitializedError
from ...threads import LONGEST_WORK, OneThread, at_work
from .failures_later import Failure, new_answer
from .waiting import unless_of_a_handler

Refused = Callable[[Exception], None]
"""Takes the error with which something ends that has no thread: none can be started, or the process ends."""

_ENDS: Final = (
    "this process ends, so no call is sent again and no module is found again; call, and wait for calls, before that, "
    "or in a function that was given to atexit after torchremote was imported"
)
_log = logging.getLogger("torchremote")


def at_latest(end: float, future: torch.futures.Future[Any], late: Exception) -> torch.futures.Future[Any]:
    """Returns a Future of the value or error of `future`; or of the error `late`, if `end` comes first.

    Args:
        end: as `time.monotonic` has it; may be infinite.
    """
    if end == math.inf or future.done():
        return future
    first = new_answer()

    def give(value: Any) -> None:  # only on the thread of `call_soon`, unless the process ends
        if not first.done():
            with contextlib.suppress(RuntimeError):  # another thread was faster
                first.set_result(value)

    def refuse(error: Exception) -> None:
        give(Failure.of(error))

    def take() -> None:
        _clock.cancel(deadline)
        try:
            give(future.wait())
        except BaseException as error:
            give(Failure.of(error))

    deadline = _clock.call_after(end - time.monotonic(), partial(give, Failure.of(late)), refuse)
    _torch.when_done(future, lambda _: call_soon(take, refuse))
    return first


def call_soon(do: Callable[[], None], refused: Refused) -> None:
    """Has `do` run on a thread of ours, which runs one function after the other. It waits for no other process.

    Args:
        refused: is called instead if there is no such thread, at once or when the process ends.
    """
    call_later(0.0, do, refused)


def call_later(seconds: float, do: Callable[[], None], refused: Refused) -> None:
    """Does as `call_soon`, in so many seconds."""
    try:
        _clock.call_after(seconds, do, refused)
    except unless_of_a_handler(RuntimeError) as error:
        refused(error)


def call_and_log(do: Callable[[], None]) -> None:
    """Calls `do`, and logs what it raises: the thread has to go on."""
    try:
        do()
    except BaseException:  # see owner/create.py, Note [What is no Exception]
        _log.exception("torchremote: a bug; a call that is sent again never ends")


class _Entry(NamedTuple):
    """Holds a function that a clock calls, and when. Numbers differ, so no more is compared."""

    time: float
    number: int
    do: list[Any]  # the function, and what is called if the clock ends before; empty: it was called, or cancelled


class _Clock:
    """A thread that calls functions when it is time. They wait for no other process. It ends with this one."""

    def __init__(self) -> None:
        self._due: list[_Entry] = []  # a heap
        self._cancelled = 0  # how many of these
        self._is_over = False
        self._numbers = itertools.count()
        # The handler of a signal may raise in `Condition.__enter__`, which is in Python, when it has the lock.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._thread = OneThread(self._run, "torchremote-again")

    def call_after(self, seconds: float, do: Callable[[], None], refused: Refused) -> _Entry:
        with self._lock:
            if self._is_over:
                raise NotInitializedError(_ENDS)
            self._thread.start()  # before: if no thread can be started, `do` is never called
            entry = _Entry(time.monotonic() + seconds, next(self._numbers), [do, refused])
            heapq.heappush(self._due, entry)
            self._changed.notify()
            return entry

    def cancel(self, entry: _Entry) -> None:
        """Has a function not be called any more. At most half of what is kept are such."""
        with self._lock:
            if not entry.do:
                return
            entry.do.clear()
            self._cancelled += 1
            if self._cancelled * 2 > len(self._due):
                self._due = [entry for entry in self._due if entry.do]
                heapq.heapify(self._due)
                self._cancelled = 0

    def end(self, seconds: float) -> None:
        """Refuses all functions, those that are due as well. Waits for the thread, for twice so many seconds at most.

        See threads.py, Note [Threads and the end of Python].
        """
        with self._lock:
            self._is_over = True
            self._changed.notify()
            self._changed.wait_for(lambda: not self._due, seconds)
        self._thread.wait(seconds)

    def _run(self) -> None:
        while self._call_next():
            pass

    def _call_next(self) -> bool:  # a function of its own, so that nothing is kept of a call while there is no other
        with self._lock:
            while not self._is_over and (
                (left := self._due[0][0] - time.monotonic() if self._due else None) is None or left > 0
            ):
                self._changed.wait(left)
            if not self._due:
                return False
            entry = heapq.heappop(self._due)
            if self._is_over:
                self._changed.notify()  # `end` waits until there is none
            if not entry.do:
                self._cancelled -= 1
                return True
            do, refused = entry.do
            entry.do.clear()
            if self._is_over:
                do = partial(refused, NotInitializedError(_ENDS))
        with at_work():
            call_and_log(do)
        return True


_clock = _Clock()


def _after_fork() -> None:
    # The thread is the parent's, and so are the calls.
    global _clock
    _clock = _Clock()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _clock.end(LONGEST_WORK))
