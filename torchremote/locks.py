"""Makes the locks that guard what a whole process has, and changes that no handler of a signal leaves half done."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
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
    made: Future[T] = Future()
    try:
        threading.Thread(target=_make, args=(made, change), name="torchremote-change").start()
        return made.result()
    except BaseException as error:
        if not made.cancel():  # it has begun
            wait([made])
            raise
        if isinstance(error, RuntimeError) and str(error).startswith("can't"):  # start threads, as where Python ends
            return change()
        raise
    finally:
        del made  # its exception refers to this frame


def _make(made: Future[T], change: Callable[[], T]) -> None:
    """Makes a change, unless it was cancelled, and completes `made`."""
    if made.set_running_or_notify_cancel():
        try:
            made.set_result(change())
        except BaseException as error:
            made.set_exception(error)
        finally:
            del made  # as above
