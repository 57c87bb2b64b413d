"""Makes the Python methods of stubs. They check arguments, pack values where needed, and call the scripted methods.

The messages are the same as those of a call from TorchScript.

Note [A call from Python]
    `stub.m(x)` goes through these, from the outside in:

    1. `native_call` (native_call.py), with the native part: if the classes of the arguments are known, it sends and
       waits.
    2. `sent_again` (again.py): it goes on if the message failed. For `@idempotent`, `m_async` has
       `sent_until_timeout_later` there.
    3. `call` in `Calls.plain`, or in `Calls.packed` if Python packs the values: it checks the thread and the arguments.
    4. `send` (messages/exchange.py) calls the scripted `m_async`, which returns a Future.
    5. `settle` (same file) waits for it. `m_async` has `later` or `pass_on` there (messages/settling.py): they return a
       Future.

    If torch raises on the way, `failure_of` has `explain` (link/failures.py) make our error of it, and tells the stub.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from ... import _torch, native
from ...errors import ArgumentError, TorchRemoteError
from ...jit import CompiledInterface
from ...jit.lower import packed_name
from ...jit.lower.plan import is_called_packed
from ...jit.read.model import Method
from ...link.failures import explain, refused_handle
from ...link.route import connected_route
from ...link.tensors import restorer
from ...link.values import PythonPacker
from ..messages.exchange import send
from ..messages.own_end import unless_let_go
from ..messages.settling import Settle, later, pass_on, waiting
from .again import Resume, once_more, sent_again, sent_until_timeout_later, until_timeout
from .described import describe
from .following import DEVICES, METHODS, note_failure
from .native_call import native_call
from .profiled import profiled
from .quick_check import TENSORS, exact_classes, exact_test

Call = Callable[..., Any]
"""A method of a stub, in Python."""
Pair = tuple[Call, Call]
"""The methods `<m>` and `<m>_async`."""
Unpack = Callable[[Any], Any] | None
"""Makes a result of what a message has; None: they are the same."""
Settling = Callable[[Unpack], Settle]
"""Makes what gives the result of a call, or a Future of it."""

_is_profiling = _torch.is_profiling
_MOST_REMEMBERED: Final = 64  # combinations of classes


def called_names(compiled: CompiledInterface) -> list[str]:
    """Lists the scripted methods of a stub that Python calls."""
    names: list[str] = []
    for method in compiled.interface.messages:
        names.append(packed_name(method.name) if is_called_packed(method) else f"{method.name}_async")
    return names


def python_calls(calls: Calls) -> Iterator[Callable[..., Any]]:
    """Makes a stub's two Python methods for one method of its interface: `<m>`, which waits, and `<m>_async`."""
    in_ranges = [profiled(call, calls.compiled, calls.method) for call in _described(calls, calls.pair())]
    yield from _described(calls, calls.pair(*in_ranges))


def _described(calls: Calls, pair: Pair) -> Pair:
    for call, ending in zip(pair, ("", "_async"), strict=True):
        describe(call, calls.compiled, calls.method, ending, calls.signature)
    return pair


class Calls:
    """Makes the Python methods of a stub for one method of its interface."""

    def __init__(self, compiled: CompiledInterface, method: Method) -> None:
        self.compiled = compiled
        self.where = f"{compiled.interface.name}.{method.name}"
        self.method = method
        self.packer = PythonPacker(compiled.contract.classes)
        self.signature = call_signature(method, self.packer)
        self._tests = {argument.name: exact_test(argument.type) for argument in method.arguments}
        self._tests_in_order = tuple(self._tests[a.name] for a in method.arguments if not a.keyword_only)
        self._names_in_order = tuple(a.name for a in method.arguments if not a.keyword_only)
        self._classes_decide = all(exact_classes(argument.type) is not None for argument in method.arguments)
        # For each combination of argument classes that was exact: the positions of the tensors.
        self._tensors_among: dict[tuple[type, ...], tuple[int, ...]] = {}

    def pair(self, in_range: Call | None = None, in_range_async: Call | None = None) -> Pair:
        """Makes `<m>`, which waits, and `<m>_async`.

        Args:
            in_range, in_range_async: what they call while a profiler records. A wrapper would cost each call a frame.
        """
        make, settle_later = (self.packed, later) if is_called_packed(self.method) else (self.plain, pass_on)
        once = make(waiting)
        if self.method.idempotent:
            once_async = make(settle_later)
            resume, call_async = until_timeout(once_async), sent_until_timeout_later(once_async, in_range_async)
        else:
            resume, call_async = once_more(once), make(settle_later, in_range_async)
        return self.with_native(sent_again(once, resume, in_range), resume), call_async

    def with_native(self, otherwise: Call, resume: Resume | None = None) -> Call:
        """Makes a method that does what `otherwise` does. With the native part, most calls take less time by it."""
        if not native.available() or is_called_packed(self.method):
            return otherwise
        name, restore = f"{self.method.name}_async", restorer(self.method.returns)
        return native_call(name, self._tensors_among, otherwise, resume, restore, self.failure, self._precise)

    # -- methods whose values TorchScript takes as they are, and checks

    def plain(self, settling: Settling, in_range: Call | None = None) -> Call:
        """Makes a method that passes exact arguments on unchanged, and packs others."""
        name, is_exact, is_transforming = f"{self.method.name}_async", self._is_exact, _torch.is_transforming
        tensors_among, failure, has_modes = self._tensors_among, self.failure, _torch.has_modes
        is_functional, is_of_transform = _torch.is_functional, _torch.is_of_transform
        in_dual_level, settle = _torch.in_dual_level, settling(restorer(self.method.returns))

        def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
            if in_range is not None and _is_profiling():
                return in_range(self_, *args, **kwargs)
            if is_transforming() or has_modes():
                self.check_context()
            tensors = None if kwargs or in_dual_level() else tensors_among.get((*map(type, args),))
            if tensors is None:
                exact = is_exact(args, kwargs)
            else:
                exact = True
                for position in tensors:
                    if is_functional(args[position]) or is_of_transform(args[position]):
                        exact = False
            failing = partial(failure, self_)
            try:
                if exact:
                    answer = send(self_.__dict__[METHODS][name], args, kwargs, failing)
                else:
                    packed_args, packed_kwargs = self._packed_call(args, kwargs)
                    with _torch.as_plain_tensors():
                        answer = send(self_.__dict__[METHODS][name], packed_args, packed_kwargs, failing)
            except (ArgumentError, ValueError) as error:  # ValueError: torch shows an int of thousands of digits
                raise self._precise(error, args, kwargs) from None
            return settle(answer, failing, self_.__dict__[DEVICES])

        return call

    def _is_exact(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Says whether all arguments are exactly of the declared types. TorchScript would take None for False."""
        tests = self._tests_in_order
        if len(args) > len(tests):
            return False
        for test, value in zip(tests, args, strict=False):
            if not test(value):
                return False
        if kwargs:
            if not kwargs.keys().isdisjoint(self._names_in_order[: len(args)]):
                return False  # two values for one argument
            return all(name in self._tests and self._tests[name](kwargs[name]) for name in kwargs)
        if self._classes_decide and len(self._tensors_among) < _MOST_REMEMBERED:
            positions = tuple(position for position, value in enumerate(args) if type(value) in TENSORS)
            self._tensors_among[(*map(type, args),)] = positions
        return True

    def _packed_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Packs the arguments of a call. Returns the positional and the keyword-only ones."""
        packed = self.pack(args, kwargs)
        count = len(self._tests_in_order)
        names = (argument.name for argument in self.method.arguments[count:])
        return tuple(packed[:count]), dict(zip(names, packed[count:], strict=True))

    # -- methods whose values Python packs and unpacks

    def packed(self, settling: Settling, in_range: Call | None = None) -> Call:
        """Makes a method that packs all arguments and unpacks the result."""
        name = packed_name(self.method.name)
        settle = settling(partial(self.packer.unpack, kind=self.method.returns))

        def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
            if in_range is not None and _is_profiling():
                return in_range(self_, *args, **kwargs)
            self.check_context()
            values, failing = self.pack(args, kwargs), partial(self.failure, self_)
            with _torch.as_plain_tensors():
                answer = send(self_.__dict__[METHODS][name], tuple(values), {}, failing)
            return settle(answer, failing, self_.__dict__[DEVICES])

        return call

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Packs the arguments of a call, in the order of the method's. Those that were left out are defaults."""
        try:
            bound = self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.where}: {error}; it is {self.method.declaration}") from None
        bound.apply_defaults()
        return self.pack_arguments(bound.arguments, self.where)

    def pack_arguments(self, arguments: Mapping[str, Any], where: str) -> list[Any]:
        """Packs all arguments, in their order. `where` names the call in errors."""
        return [
            self.packer.pack(arguments[argument.name], argument.type, f"{where}.{argument.name}")
            for argument in self.method.arguments
        ]

    # -- failures

    def check_context(self) -> None:
        """Raises ArgumentError under a torch.func transform or a FakeTensorMode."""
        # Their tensors would end the process: see jit/runtime/tensors.py, Note [Tensors that hurt].
        if _torch.is_transforming():
            raise ArgumentError(
                f"{self.where}: called under a torch.func transform such as vmap, whose tensors cannot cross; "
                "call it outside"
            )
        if _torch.in_fake_mode():
            raise ArgumentError(
                f"{self.where}: called under a FakeTensorMode (as torch.export and torch.compile use), whose tensors "
                "have no values to send; call it outside"
            )

    def failure(self, stub: Any, error: Exception) -> TorchRemoteError:
        """Makes the error to raise for one of torch's."""
        return failure_of(stub, error, self.where)

    def _precise(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception:
        """Finds a better error for arguments that TorchScript refused."""
        # torch names the argument at best. Packing also finds the place in it, and an argument that is None.
        try:
            self.pack(args, kwargs)
        except ArgumentError as precise:
            return precise
        return error


def failure_of(stub: Any, error: Exception, where: str, which: Callable[[], str] = str) -> TorchRemoteError:
    """Makes the error to raise for one of torch's. If the stub has to find its module, its next call does."""
    route = connected_route(stub)
    failure = unless_let_go(explain(error, where, route.worker, which), f"{where} on {route.worker}", route)
    refused = refused_handle(error)  # the stub may have followed its module meanwhile
    note_failure(stub, route.handle if refused is None else refused, failure)
    return failure


def call_signature(method: Method, packer: PythonPacker) -> inspect.Signature:
    """Makes the signature of a method of stubs from the model: defaults are of exactly the declared types."""
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    defaults = packer.defaults_of(method)
    for argument in method.arguments:
        kind = inspect.Parameter.KEYWORD_ONLY if argument.keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default = defaults.get(argument.name, inspect.Parameter.empty)
        parameters.append(inspect.Parameter(argument.name, kind, default=default, annotation=str(argument.type)))
    own, names = "self", {argument.name for argument in method.arguments}
    while own in names:
        own += "_"
    parameters[0] = parameters[0].replace(name=own)
    return inspect.Signature(parameters, return_annotation=str(method.returns))
