"""Makes `<m>_many`: many calls of one method in one message, for callers in Python.

Note [Many calls]
    The owner runs the calls of a batch in their order, on one module. A batch is sent in one message. If it has more
    calls or bytes than a message should carry (jit/runtime/batches.py), it is sent in several messages, each after the
    results of the one before. The first call that fails ends the batch: the calls before it have run, and those after
    it do not run. The caller asks the owner which call failed: see jit/runtime/table.py, Note [Which call failed]. A
    Future is complete when the owner has answered that, or has had its time for it.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch

from ... import _torch
from ...errors import ArgumentError, RemoteError, TorchRemoteError
from ...jit import sendable
from ...jit.lower import packed_name
from ...jit.read.types import TupleType
from ...jit.runtime.table import PAGE_MASK, POSITION_BITS
from ...link.failures import FAILURES
from ...link.route import connected_route
from ...owner.modules import progress_here
from ..messages.answer import Answer
from ..messages.asking import ask_later
from ..messages.exchange import send, settle
from ..messages.failures_later import Failing, Failure, Inquiring
from ..messages.settling import later, when_all
from ..messages.waiting import unless_of_a_handler
from .again import sent_again, sent_until_timeout_later, until_timeout
from .described import describe
from .following import DEVICES, METHODS
from .quick_check import exact_test
from .single import Calls, failure_of

_ASKING: Final = 5.0  # seconds in which the owner has to say which call failed


def _draw_numbers() -> None:
    # Callers in TorchScript do not ask. They use the number 0, so numbers that would share its place are left out here.
    # With a position, a number has 62 bits to begin with, so it stays an integer of TorchScript's.
    global _numbers
    _numbers = filter(lambda number: number & PAGE_MASK, itertools.count(secrets.randbits(62 - POSITION_BITS)))


_numbers: Iterator[int]
_draw_numbers()
os.register_at_fork(after_in_child=_draw_numbers)  # for an owner, a child is another caller


def many_calls(calls: Calls) -> Iterator[Callable[..., Any]]:
    """Makes a stub's two Python methods for many calls of one method: `<m>_many` and `<m>_many_async`."""
    batches = Batches(calls)
    for call, ending in ((batches.many(), "_many"), (batches.many_async(), "_many_async")):
        describe(call, calls.compiled, calls.method, ending, calls.signature)
        yield call


class Batches:
    """Makes the Python methods of a stub for many calls of one method."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._method = method = calls.method
        self.where = f"{calls.compiled.interface.name}.{method.many.name}"
        _, self._call_async = calls.pair()
        self._is_exact = exact_test(TupleType(tuple(argument.type for argument in method.arguments)))
        self._defaults = calls.packer.defaults_of(method)

    def many(self) -> Callable[..., Any]:
        """Makes `<m>_many`."""

        def call(self_: Any, /, calls: Iterable[Any], *, return_exceptions: bool = False) -> list[Any]:
            if return_exceptions:
                return [result_of(sent) for sent in self.send_each(self_, calls, self._call_async)]
            result: list[Any] = settle(*self.begin(self_, self.packed(calls)))
            return result

        if not self._method.idempotent:
            return call
        return self._with_list(sent_again(call, until_timeout(self._many_async_once())))

    def many_async(self) -> Callable[..., Any]:
        """Makes `<m>_many_async`."""
        once = self._many_async_once()
        return self._with_list(sent_until_timeout_later(once)) if self._method.idempotent else once

    def _many_async_once(self) -> Callable[..., Any]:
        """Makes what does as `<m>_many_async`, and sends no call again."""
        settle_later = later(self._unpack)

        def call(self_: Any, /, calls: Iterable[Any], *, return_exceptions: bool = False) -> Any:
            if return_exceptions:
                return when_each(self.send_each(self_, calls, self._call_async), self_.__dict__[DEVICES])
            answer, _, failing = self.begin(self_, self.packed(calls))
            return settle_later(answer, failing, self_.__dict__[DEVICES])

        return call

    def _with_list(self, again: Callable[..., Any]) -> Callable[..., Any]:
        """Makes a method that has `again` take a list: an iterator would be empty when the calls are sent again."""

        def call(self_: Any, /, calls: Iterable[Any], *, return_exceptions: bool = False) -> Any:
            return again(self_, self._listed(calls), return_exceptions=return_exceptions)

        return call

    def packed(self, calls: Iterable[Any]) -> list[Any]:
        """Packs the calls of a batch. Raises ArgumentError for the first that does not fit."""
        self._calls.check_context()
        return [
            call if self._is_exact(call) else self._pack(call, self._place(position))
            for position, call in enumerate(self._listed(calls))
        ]

    def begin(self, stub: Any, packed: list[Any], first: int = 0) -> tuple[Any, Callable[[Any], Any], Failing]:
        """Sends a batch of packed calls.

        Args:
            first: the position of its first call in the user's list.

        Returns:
            The Future of its results, what unpacks these, and what makes errors of torch's.
        """
        batch = _Batch(stub, self.where, first)
        scripted = stub.__dict__[METHODS][packed_name(self._method.many.name)]
        try:
            with _torch.as_plain_tensors():
                return send(scripted, (packed, batch.number), {}, batch), self._unpack, batch
        except (ArgumentError, ValueError):  # ValueError: torch shows an int of thousands of digits
            self._raise_misfit(batch, packed)
            raise

    def _raise_misfit(self, batch: _Batch, packed: list[Any]) -> None:
        """Raises for the first call with an argument that cannot be sent. TorchScript does not say which it is."""
        for position, call in enumerate(packed, batch.first):
            where = self._place(position)
            if self._is_exact(call):
                self._pack(call, where)
            try:
                _torch.map_leaves(partial(batch.check_sendable, where), call)
            except FAILURES as error:
                raise batch(error) from None

    def _place(self, position: int) -> str:
        return f"{self.where}.calls[{position}]"

    def _unpack(self, values: list[Any]) -> list[Any]:
        results: list[Any] = self._calls.packer.unpack(values, self._method.many.returns)
        return results

    def _listed(self, calls: Iterable[Any]) -> list[Any]:
        """Returns the calls as a list. Raises ArgumentError if `calls` is no list of calls."""
        if isinstance(calls, (torch.Tensor, str, Mapping)) or not isinstance(calls, Iterable):
            raise ArgumentError(f"{self.where}.calls: {type(calls).__name__} is no list of calls; {_A_CALL}")
        return list(calls)  # an iterator that fails does so before anything is sent

    def _pack(self, call: Any, where: str) -> tuple[Any, ...]:
        return tuple(self._calls.pack_arguments(self._arguments(call, where), where))

    def _arguments(self, call: Any, where: str) -> dict[str, Any]:
        """Returns all arguments of one call by name, with defaults for those that were left out."""
        names = [argument.name for argument in self._method.arguments]
        if isinstance(call, Mapping):
            given = dict(call)
        elif isinstance(call, (tuple, list)):
            if len(call) > len(names):
                raise ArgumentError(
                    f"{where}: {len(call)} arguments, and {self._method.name} takes {len(names)}; "
                    f"it is {self._method.declaration}"
                )
            given = dict(zip(names, call, strict=False))
        else:
            raise ArgumentError(f"{where}: {type(call).__name__} is no tuple of arguments; {_A_CALL}")
        unknown = [str(name) for name in given if name not in names]
        missing = [name for name in names if name not in given and name not in self._defaults]
        for what, which in (("no such argument", unknown), ("missing", missing)):
            if which:
                raise ArgumentError(f"{where}: {what}: {', '.join(which)}; it is {self._method.declaration}")
        return {**self._defaults, **given}

    # -- a message for each call

    def send_each(self, stub: Any, calls: Iterable[Any], call_async: Callable[..., Any]) -> list[Any]:
        """Sends each call in its own message, by `call_async` of `stub`.

        Returns:
            A Future for each, or the error that prevented it.
        """
        sent: list[Any] = []
        for position, call in enumerate(self._listed(calls)):
            try:
                arguments = self._arguments(call, self._place(position))
                sent.append(call_async(stub, **arguments))
            except unless_of_a_handler(TorchRemoteError) as error:
                sent.append(error)
        return sent


_A_CALL: Final = "a call is a tuple of arguments, as in [(x,), (y,)], or a mapping from their names"


def when_each(sent: list[Any], devices: Sequence[torch.device]) -> Answer[list[Any]]:
    """Returns a Future of the results and errors of what `Batches.send_each` sent.

    Args:
        devices: the accelerators on which tensors of the results may be.
    """
    begun = [one for one in sent if not isinstance(one, Exception)]
    return when_all(begun, lambda: list(map(result_of, sent)), devices)


def result_of(sent: Any) -> Any:
    """Waits for a call of `Batches.send_each`. Returns its result or its error."""
    if isinstance(sent, Exception):
        return sent
    try:
        return sent.wait()
    except unless_of_a_handler(TorchRemoteError) as error:
        return error.with_traceback(None)  # see messages/failures_later.py, Note [Failures in Futures]


class _Batch(Inquiring):
    """One batch of calls that is sent through a stub. It asks the owner which call failed."""

    def __init__(self, stub: Any, where: str, first: int) -> None:
        self.stub = stub
        self.first = first
        self.number = next(_numbers) << POSITION_BITS  # with room for a position: see jit/runtime/table.py
        self._where = where

    def __call__(self, error: Exception) -> TorchRemoteError:
        return self._failure(error, lambda: self._place(self._ask()))

    def later(self, error: Exception, give: Callable[[Failure], None]) -> None:
        failure = self._failure(error)
        asked = self._ask() if isinstance(failure, RemoteError) else None  # the others say nothing of a call
        if asked is None:
            give(Failure.of(failure))
        else:
            which = partial(self._place, asked)
            _torch.when_done(asked, lambda _: give(Failure(partial(self._failure, error, which))))

    def _failure(self, error: Exception, which: Callable[[], str] = str) -> TorchRemoteError:
        return failure_of(self.stub, error, self._where, which)

    def _ask(self) -> Answer[int | None] | None:
        """Asks the owner which call failed. None if it is lost: the call's own failure matters more."""
        route = connected_route(self.stub)
        try:
            return ask_later(route.worker, self._where, progress_here, route.handle, self.number, timeout=_ASKING)
        except unless_of_a_handler(TorchRemoteError):
            return None

    def _place(self, asked: Answer[int | None] | None) -> str:
        """Words what the owner answers; waits for it. "" if it is lost or busy."""
        try:
            position = None if asked is None else asked.wait()
        except unless_of_a_handler(TorchRemoteError):
            position = None
        return "" if position is None else f"calls[{self.first + position}]: "

    def check_sendable(self, where: str, value: Any) -> None:
        """Raises what TorchScript raises if `value` is a tensor that cannot be sent."""
        if isinstance(value, torch.Tensor):
            sendable()(value, list(connected_route(self.stub).devices), where)
