"""Gives the results of messages: waits for them, or returns Futures of them at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch

from ... import _torch, native
from ...link.failures import FAILURES
from .answer import Answer
from .exchange import settle
from .failures_later import Failing, Failure, fail_later, new_answer, raise_failure
from .waiting import is_of_a_handler

Settle = Callable[[Any, Failing, Sequence[torch.device]], Any]
"""Gives the result of a message, or a Future of it. It takes the answer, what makes errors of failures, and the
accelerators on which tensors of the result may be: a Future waits for their work."""


def waiting(unpack: Callable[[Any], Any] | None) -> Settle:
    """Makes a `Settle` that waits, as `settle` does."""
    return lambda answer, failing, devices: settle(answer, unpack, failing)


def later(unpack: Callable[[Any], Any] | None, on_unwrap: Callable[[Any], None] = raise_failure) -> Settle:
    """Makes a `Settle` that returns a Future at once, of what `settle` would return or raise.

    Args:
        on_unwrap: is called with the value whenever somebody asks for it, and raises the error if it is one.
    """
    # It calls torch's methods in C++, not those of Python around them.
    future_value, complete = _torch.future_value, _torch.complete
    when_done, check_on_unwrap, begin_future = _torch.when_done, _torch.check_on_unwrap, _torch.begin_future
    new = Answer.__new__

    def settle_later(answer: Any, failing: Failing, devices: Sequence[torch.device]) -> Answer[Any]:
        result: Answer[Any] = new(Answer)
        begin_future(result, devices)  # as `Answer(devices)` does, with a frame less
        # The waiter would get an exception of a callback only as text. So the error is raised when the value is
        # unwrapped.
        check_on_unwrap(result, on_unwrap)

        # This runs on an RPC thread and holds the GIL, which the caller needs. So it does as little as possible.
        def settled(done: torch.futures.Future[Any]) -> None:
            try:
                value = future_value(done)
                complete(result, value if unpack is None else unpack(value))
            except FAILURES as error:
                if is_of_a_handler(error):  # in the caller's own frame
                    result.set_result(Failure.of(error))
                    raise
                fail_later(failing, error, result.set_result)
            except Exception as error:  # a bug; without a result, the waiter would wait for ever
                result.set_result(Failure.of(error))
            except BaseException as error:  # as Ctrl-C, in the caller's own frame
                if not result.done():
                    result.set_result(Failure(type(error)))
                raise

        when_done(answer, settled)
        return result

    return settle_later


def _pass_on_with_callback(restore: Callable[[Any], Any] | None) -> Settle:
    """Makes a `Settle` as `later` does, for values that need no unpacking.

    `restore` changes the value in place when somebody asks for it.
    """
    if restore is None:
        return later(None)

    def check(value: Any) -> None:
        raise_failure(value)
        restore(value)

    return later(None, check)


def _pass_on_natively(restore: Callable[[Any], Any] | None) -> Settle:
    """Makes a `Settle` as `_pass_on_with_callback` does. The native part gives the Future its value, without Python."""

    def settle_later(answer: Any, failing: Failing, devices: Sequence[torch.device]) -> Answer[Any]:
        result: Answer[Any] = Answer(devices)
        _torch.check_on_unwrap(result, _Arrived(answer, restore, failing))
        native.pass_on(answer, result)
        return result

    return settle_later


pass_on: Final = _pass_on_natively if native.available() else _pass_on_with_callback


class _Arrived:
    """Looks at the value of a Future that C++ completed. None may stand for an error of the answer."""

    __slots__ = ("_answer", "_failing", "_failure", "_restore")

    def __init__(self, answer: Any, restore: Callable[[Any], Any] | None, failing: Failing) -> None:
        self._restore = restore
        self._answer: Any = answer
        self._failing: Any = failing
        self._failure: Failure | None = None

    def __call__(self, value: Any) -> None:
        answer, failing = self._answer, self._failing
        if value is None and self._failure is None and answer is not None:
            try:
                answer.value()
            except FAILURES as error:
                self._failure = Failure(partial(failing, error.with_traceback(None)))
        if self._failure is not None:
            raise self._failure.new()
        self._answer = self._failing = None  # a Future that has its result keeps no stub
        if self._restore is not None:
            self._restore(value)


def when_all(futures: Sequence[Any], make: Callable[[], Any], devices: Sequence[torch.device] = ()) -> Answer[Any]:
    """Returns a Future of what `make` returns or raises when all of `futures` are complete, with results or errors.

    Args:
        make: may return a `Failure`. It takes values by `wait`: see answer.py, Note [Values on accelerators].
        devices: the accelerators on which tensors of the result may be.
    """
    answer = new_answer(devices)
    left = itertools.count(len(futures), -1)

    def done(_: object) -> None:
        if next(left) == 0:  # counting is atomic under the GIL
            try:
                answer.set_result(make())
            except Exception as error:  # a bug; without a result, the waiter would wait for ever
                answer.set_result(Failure.of(error))

    for future in futures:
        _torch.when_done(future, done)
    done(None)  # the last one, if all were complete, or if there are none
    return answer
