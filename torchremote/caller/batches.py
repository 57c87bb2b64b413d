"""`<m>_many`: many calls of one method in one message, for callers in Python.

Note [Many calls]
    The owner runs the calls of a batch in their order, on one module. A batch is sent in one message. If it has more
    calls or bytes than one should carry (jit/runtime/batches.py), it is sent in several, each after the results of the
    last. The first call that fails ends the batch: those before it have run, those after it do not. The caller asks
    the owner which call it was: see jit/runtime/table.py, Note [Which call failed].
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import torch

from .. import _torch
from ..errors import ArgumentError, TorchRemoteError
from ..jit import CompiledInterface, sendable
from ..jit.lower import packed_name
from ..jit.read.model import Method, Required
from ..jit.read.types import TupleType
from ..jit.runtime.table import POSITION_BITS
from ..link.failures import FAILURES, explain
from ..link.route import Route, route_of
from ..owner.tables import progress_here
from .calls import METHODS, Calls, python_calls
from .exchange import ask, send, settle, settle_later
from .quick_check import exact_test

_ASKING: Final = 5.0  # seconds that the owner has to say which call failed
# Those with low bits of 0 are left to callers in TorchScript, which do not ask.
_numbers = filter(lambda number: number & 255, itertools.count(secrets.randbits(38)))


def many_calls(compiled: CompiledInterface, method: Method) -> Iterator[Callable[..., Any]]:
    """Makes the two methods that a stub has in Python for many calls of one of its interface."""
    batches = _Batches(compiled, method)
    for call, name in ((batches.many(), method.many.name), (batches.many_async(), f"{method.many.name}_async")):
        call.__name__ = call.__qualname__ = name
        call.__doc__ = _DOCSTRING.format(name=name, declaration=method.declaration)
        yield call


_DOCSTRING: Final = """{name}(calls, *, return_exceptions=False): many calls of `{declaration}`.

Args:
    calls: each a tuple of arguments, keyword-only ones last, or a mapping from their names; defaults may be left out.
    return_exceptions: False: one message, in which calls run in order; the first that fails ends the batch, and the
        error says which it was. True: a message for each call, all at once; a failure stands in its result's place.

Returns:
    The results, in the order of the calls; from `<m>_many_async`, a Future of that.
"""


class _Batches:
    def __init__(self, compiled: CompiledInterface, method: Method) -> None:
        self._method = method
        self._where = f"{compiled.interface.name}.{method.many.name}"
        self._calls = Calls(compiled, method)
        self._call_async = list(python_calls(compiled, method))[1]
        self._is_exact = exact_test(TupleType(tuple(argument.type for argument in method.arguments)))
        self._defaults = {
            argument.name: self._calls.packer.value_of(argument.default)
            for argument in method.arguments
            if not isinstance(argument.default, Required)
        }

    def many(self) -> Callable[..., Any]:
        def call(self_: Any, /, calls: Iterable[Any], *, return_exceptions: bool = False) -> list[Any]:
            if return_exceptions:
                return [_result(pending) for pending in self._send_each(self_, calls)]
            batch = _Batch(self_, self._where)
            result: list[Any] = settle(self._send(batch, calls), self._unpack, batch.failure)
            return result

        return call

    def many_async(self) -> Callable[..., Any]:
        def call(self_: Any, /, calls: Iterable[Any], *, return_exceptions: bool = False) -> Any:
            if return_exceptions:
                sent = self._send_each(self_, calls)
                every = torch.futures.collect_all([one for one in sent if not isinstance(one, Exception)])
                return every.then(lambda _: list(map(_result, sent)))
            batch = _Batch(self_, self._where)
            return settle_later(self._send(batch, calls), self._unpack, batch.failure)

        return call

    def _send(self, batch: _Batch, calls: Iterable[Any]) -> Any:
        self._calls.check_context()
        packed = [
            call if self._is_exact(call) else self._pack(call, self._place(position))
            for position, call in self._each(calls)
        ]
        scripted = batch.stub.__dict__[METHODS][packed_name(self._method.many.name)]
        try:
            with _torch.as_plain_tensors():
                return send(scripted, (packed, batch.number), {}, batch.failure)
        except ArgumentError:
            self._raise_misfit(batch, packed)
            raise

    def _raise_misfit(self, batch: _Batch, packed: list[Any]) -> None:
        """Raises for the first call with an argument that cannot be sent: TorchScript does not say which it is."""
        for position, call in enumerate(packed):
            where = self._place(position)
            if self._is_exact(call):
                self._pack(call, where)
            try:
                _torch.map_leaves(partial(batch.check_sendable, where), call)
            except FAILURES as error:
                raise batch.failure(error) from None

    def _place(self, position: int) -> str:
        return f"{self._where}.calls[{position}]"

    def _unpack(self, values: list[Any]) -> list[Any]:
        results: list[Any] = self._calls.packer.unpack(values, self._method.many.returns)
        return results

    def _each(self, calls: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        if isinstance(calls, (torch.Tensor, str, Mapping)) or not isinstance(calls, Iterable):
            raise ArgumentError(f"{self._where}.calls: {type(calls).__name__} is no list of calls; {_A_CALL}")
        return enumerate(list(calls))  # whole, before anything is sent

    def _pack(self, call: Any, where: str) -> tuple[Any, ...]:
        return tuple(self._calls.pack_arguments(self._arguments(call, where), where))

    def _arguments(self, call: Any, where: str) -> dict[str, Any]:
        """Returns all arguments of a call of the batch by name, with the defaults of those that were left out."""
        names = [argument.name for argument in self._method.arguments]
        if isinstance(call, Mapping):
            given = dict(call)
        elif isinstance(call, (tuple, list)):
            if len(call) > len(names):
                raise ArgumentError(f"{where}: {len(call)} arguments, and {self._method.name} has {len(names)}")
            given = dict(zip(names, call, strict=False))
        else:
            raise ArgumentError(f"{where}: {type(call).__name__} is no tuple of arguments; {_A_CALL}")
        unknown = [str(name) for name in given if name not in names]
        missing = [name for name in names if name not in given and name not in self._defaults]
        for what, which in (("no such argument", unknown), ("missing", missing)):
            if which:
                raise ArgumentError(f"{where}: {what}: {', '.join(which)}; it is {self._method.declaration}")
        return {**self._defaults, **given}

    # -- each call in a message of its own

    def _send_each(self, stub: Any, calls: Iterable[Any]) -> list[Any]:
        """Sends each call; returns its future, or the error with which it was not sent."""
        sent: list[Any] = []
        for position, call in self._each(calls):
            try:
                arguments = self._arguments(call, self._place(position))
                sent.append(self._call_async(stub, **arguments))
            except TorchRemoteError as error:
                sent.append(error)
        return sent


_A_CALL: Final = "a call is a tuple of arguments, as in [(x,), (y,)], or a mapping from their names"


def _result(sent: Any) -> Any:
    if isinstance(sent, Exception):
        return sent
    try:
        return sent.wait()
    except TorchRemoteError as error:
        return error


class _Batch:
    """One batch that is sent through a stub."""

    def __init__(self, stub: Any, where: str) -> None:
        self.stub = stub
        self.number = next(_numbers) << POSITION_BITS  # with room for a call's position: see Note [Which call failed]
        self._where = where

    def failure(self, error: Exception) -> TorchRemoteError:
        route = route_of(self.stub)
        assert route is not None, "a stub has its Python methods from when it is connected"
        return explain(error, self._where, route.worker, route.handle, partial(self._which, route))

    def check_sendable(self, where: str, value: Any) -> None:
        route = route_of(self.stub)
        assert route is not None
        if isinstance(value, torch.Tensor):
            sendable()(value, list(route.devices), where)

    def _which(self, route: Route) -> str:
        position = None
        with suppress(TorchRemoteError):  # the owner is lost, or busy; that is not the failure to tell of
            position = ask(route.worker, self._where, progress_here, route.handle, self.number, timeout=_ASKING)
        return "" if position is None else f"calls[{position}]: "
