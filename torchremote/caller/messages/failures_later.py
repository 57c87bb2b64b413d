"""Keeps errors in Futures, until somebody asks for the value.

Note [Failures in Futures]
    The Future of a failed call keeps the exception. An exception with a traceback refers to frames: those of who
    waited, and, if the answer was there already, those of the caller, where the callback ran. A frame there has the
    Future in a variable. Python cannot collect a cycle through a Future, so the stub would live for ever, and its
    module with it. Therefore no exception that a Future keeps has a traceback.
"""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from ... import _torch
from ...errors import TorchRemoteError
from .answer import Answer

Failing = Callable[[Exception], Exception]
"""Makes the error to raise for one of torch's."""


class Failure:
    """Stands in a Future for an error that is made later."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        """Stands for what `error` makes. It is called where the error is raised, and must not wait."""
        self._error = functools.cache(error)

    @staticmethod
    def of(error: BaseException) -> Failure:
        """Stands for `error`. A bug of ours keeps its traceback, and with it what that refers to."""
        kept = error
        if isinstance(error, TorchRemoteError):
            kept = error.with_traceback(None)
            kept.__context__ = kept.__cause__ = None  # which have tracebacks, too
        return Failure(lambda: kept)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # torch pickles the value of a Future of accelerators, to find the tensors in it. Here are none.
        return object, ()

    def new(self) -> BaseException:
        """Makes an exception to raise. The one that is kept has no traceback: see Note [Failures in Futures]."""
        error = self._error()
        return copy.copy(error) if isinstance(error, TorchRemoteError) else error


def raise_failure(value: object) -> None:
    """Raises the error for which `value` stands, if it does."""
    if isinstance(value, Failure):
        raise value.new()


def new_answer(devices: Sequence[torch.device] = ()) -> Answer[Any]:
    """Makes a Future that raises, where somebody asks for its value, the error for which that stands.

    Args:
        devices: the accelerators on which tensors of the value may be.
    """
    answer: Answer[Any] = Answer(devices)
    _torch.check_on_unwrap(answer, raise_failure)
    return answer


class Inquiring(ABC):
    """Makes errors, as any `Failing`, but needs an answer of the owner for some."""

    @abstractmethod
    def __call__(self, error: Exception) -> Exception:
        """Makes the error to raise for one of torch's. Waits for the owner."""

    @abstractmethod
    def later(self, error: Exception, give: Callable[[Failure], None]) -> None:
        """Has `give` take the `Failure` for an error of torch's when the owner has answered. Waits for nobody."""


def fail_later(failing: Failing, error: Exception, give: Callable[[Failure], None]) -> None:
    """Has `give` take the `Failure` for an error of torch's. Waits for nobody.

    An event loop, a callback and the thread of clock.py take a `Failure` where they must not wait, either.
    """
    error = error.with_traceback(None)  # see Note [Failures in Futures]
    if not isinstance(failing, Inquiring):
        give(Failure(partial(failing, error)))
        return
    try:
        failing.later(error, give)
    except Exception as bug:  # without a result, the waiter would wait for ever
        give(Failure.of(bug))
