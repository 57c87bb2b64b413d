"""Makes the locks that guard what a whole process has, and changes that no handler of a signal leaves half done."""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")

_locks: Final[list[Any]] = []


def new_lock() -> AbstractContextManager[bool]:
    """Makes a lock for a variable of a module.

    It is reentrant, because a handler of a signal, or a finaliser, may run in a thread that holds it. A child of
    `os.fork` has it free, because the thread that held it is not there.
    """
    lock: Any = threading.RLock()
    _locks.append(lock)
    os.register_at_fork(after_in_child=lock._at_fork_reinit)  # as Python's own modules do
    return lock  # type: ignore[no-any-return]


def uninterrupted(change: Callable[[], T]) -> T:
    """Returns what `change` returns. A handler of a signal that raises does not end it in the middle.

    Python runs handlers in the main thread, between any two of its instructions. So the main thread has another one
    make the change. If a handler raises, as that of Ctrl-C does, the change is made as a whole all the same, or has not
    begun and is not made.
    """
    is_main = threading.get_ident() == threading.main_thread().ident
    # A handler, or a finaliser, that interrupts what has a lock does not wait for another thread that needs it.
    if not is_main or any(lock._is_owned() for lock in _locks):
        return change()
    begun, ended = threading.Lock(), threading.Lock()  # in C: no handler runs between taking one and knowing it
    outcome: list[tuple[Any, BaseException | None]] = []
    ended.acquire()

    def make() -> None:
        if begun.acquire(blocking=False):
            try:
                outcome.append((change(), None))
            except BaseException as error:
                outcome.append((None, error))
            finally:
                ended.release()

    try:
        _thread.start_new_thread(make, ())
        ended.acquire()
    except BaseException as error:
        if begun.acquire(blocking=False):  # it will not begin
            no_thread = isinstance(error, RuntimeError) and str(error).startswith("can't")  # as where Python ends
            if no_thread:
                return change()
            raise
        while not outcome:  # whatever a second Ctrl-C does
            with suppress(BaseException):
                ended.acquire()
        raise
    made, failure = outcome.pop()
    try:
        if failure is not None:
            raise failure
        return made  # type: ignore[no-any-return]
    finally:
        del failure  # which refers to this frame
