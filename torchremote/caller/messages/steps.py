"""Runs what waits several times, in the thread that called it or in none.

Note [Steps]
    A call that got lost waits for its pause, for its module to be found, and for the answer to its next message. The
    rules for that are in generators, which yield what they wait for: seconds, or a Future. `run_here` waits in its own
    thread, as a blocking call does. `run_later` needs no thread while it waits, so there may be any number of them: one
    thread of ours (clock.py) keeps the time, and takes the steps of all.

    That thread must not wait for anything. A result completes a Future of the user's, and torch calls what was given to
    its `then` in the thread that does so. That may wait for another call, whose steps the same thread has to take. So
    each result is given in a thread of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

import torch

from ... import _torch
from ...threads import start_at_work
from .clock import call_and_log, call_later, call_soon
from .failures_later import Failure, raise_failure
from .waiting import unless_of_a_handler, wait

Result = TypeVar("Result")
Steps = Generator[Any, Any, Result]
"""Yields seconds, as a float, or a Future, whose value it is sent and whose error is raised in it. It never waits
for other processes itself. A `Failure` that it returns stands for an error."""


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
        give = partial(call_and_log, partial(self._give, result))
        try:
            start_at_work(give, "torchremote-result")
        except RuntimeError:  # no more threads can be started
            give()

    def _after(self, seconds: float) -> None:
        call_later(seconds, partial(self._go_on, partial(next, self._steps)), self._refuse)

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
            step = partial(self._steps.send, done.wait())  # see answer.py, Note [Values on accelerators]
        except BaseException as error:
            # See failures_later.py, Note [Failures in Futures].
            step = partial(self._steps.throw, error.with_traceback(None))
        self._go_on(step)
