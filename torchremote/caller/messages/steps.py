"""Runs what waits several times, in the thread that called it or in none.

Note [Steps]
    A call that got lost waits for its pause, for its module to be found, and for the answer to its next message. The
    rules for that are in generators, which yield what they wait for: seconds, or a Future. `run_here` waits in its own
    thread, as a blocking call does. `run_later` needs no thread while it waits, so there may be any number of them: one
    thread of ours keeps the time, and takes the steps of all.

    That thread must not wait for anything. A result completes a Future of the user's, and torch calls what was given to
    its `then` in the thread that does so. That may wait for another call, whose steps the same thread has to take. So
    each result is given in a thread of its own.
"""

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
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import torch

from ... import _torch
from ...errors import NotInitializedError
from ...threads import LONGEST_WORK, OneThread, at_work, start_at_work
from .awaiting import Answer
from .exchange import Failure, raise_failure
from .waiting import unless_of_a_handler, wait

Result = TypeVar("Result")
Steps = Generator[Any, Any, Result]
"""Yields seconds, as a float, or a Future, whose value it is sent and whose error is raised in it. It never waits
for other processes itself. A `Failure` that it returns stands for an error."""

Refused = Callable[[Exception], None]
"""Takes the error with which something ends that has no thread: none can be started, or the process ends."""

_ENDS: Final = (
    "this process ends, so no call is sent again and no module is found again; call, and wait for calls, before that, "
    "or in a function that was given to atexit after torchremote was imported"
)
_log = logging.getLogger("torchremote")


def run_here(steps: Steps[Result]) -> Result:
    """Runs steps to their end. Returns their result or raises their error."""
    with contextlib.closing(steps):  # Ctrl-C ends the waiting, and what the steps hold is given back
        try:
            waits_for = next(steps)
            while True:
                if isinstance(waits_for, float):
                    time.sleep(waits_for)
                    waits_for = next(steps)
                    continue
                try:
                    value = wait(waits_for)
                except unless_of_a_handler(Exception) as error:
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(value)
        except StopIteration as end:
            raise_failure(end.value)
            result: Result = end.value
            return result


def run_later(steps: Steps[Any], give: Callable[[Any], None], grad_mode: bool) -> None:
    """Runs steps on the thread of `call_soon`. Returns at once.

    Args:
        give: takes their result, or a `Failure`, in a thread of its own.
        grad_mode: that of the thread that makes the call. Each thread has its own.
    """
    _Later(steps, give, grad_mode).begin()


class _Later:
    """Steps that wait without a thread."""

    def __init__(self, steps: Steps[Any], give: Callable[[Any], None], grad_mode: bool) -> None:
        self._steps = steps
        self._give = give
        self._grad_mode = grad_mode

    def begin(self) -> None:
        self._after(0.0)

    def _refuse(self, error: Exception) -> None:
        self._end(Failure.of(error))

    def _end(self, result: Any) -> None:
        give = partial(_call, partial(self._give, result))
        try:
            start_at_work(give, "torchremote-result")
        except RuntimeError:  # no more threads can be started
            give()

    def _after(self, seconds: float) -> None:
        _call_later(seconds, partial(self._go_on, partial(next, self._steps)), self._refuse)

    def _go_on(self, step: Callable[[], Any]) -> None:
        try:
            with torch.set_grad_enabled(self._grad_mode):
                waits_for = step()
        except StopIteration as end:
            self._end(end.value)
        except BaseException as error:  # see owner/create.py, Note [What is no Exception]
            self._end(Failure.of(error))
        else:
            if isinstance(waits_for, float):
                self._after(waits_for)
            else:
                # The next step is not taken by whoever completes it: that thread has contexts of its own.
                _torch.when_done(waits_for, lambda done: call_soon(partial(self._arrived, done), self._refuse))

    def _arrived(self, done: torch.futures.Future[Any]) -> None:
        try:
            step = partial(self._steps.send, done.wait())  # see awaiting.py, Note [Values on accelerators]
        except BaseException as error:
            # See exchange.py, Note [Failures in Futures].
            step = partial(self._steps.throw, error.with_traceback(None))
        self._go_on(step)


def at_latest(end: float, future: torch.futures.Future[Any], late: Exception) -> torch.futures.Future[Any]:
    """Returns a Future of the value or error of `future`; or of the error `late`, if `end` comes first.

    Args:
        end: as `time.monotonic` has it; may be infinite.
    """
    if end == math.inf or future.done():
        return future
    first: Answer[Any] = Answer()
    _torch.check_on_unwrap(first, raise_failure)

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
    _call_later(0.0, do, refused)


def _call_later(seconds: float, do: Callable[[], None], refused: Refused) -> None:
    try:
        _clock.call_after(seconds, do, refused)
    except unless_of_a_handler(RuntimeError) as error:
        refused(error)


def _do_at_work(do: Callable[[], None]) -> None:
    with at_work():
        do()


def _call(do: Callable[[], None]) -> None:
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
        _do_at_work(partial(_call, do))
        return True


_clock = _Clock()


def _after_fork() -> None:
    # The thread is the parent's, and so are the calls.
    global _clock
    _clock = _Clock()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _clock.end(LONGEST_WORK))
