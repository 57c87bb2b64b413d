"""Stubs: scripted modules whose methods run elsewhere, with a Python face that explains failures.

The scripted part is generated (jit/lower.py); this is what Python sees of it. A face adds nothing to what crosses:
it passes a call on, and turns torch's account of a failure into one that begins with what the user knows.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from .errors import ArgumentError, InterfaceError, TorchRemoteError
from .failures import FAILURES, explain
from .fitting import fitting
from .jit import CompiledInterface, Placement, _torch, compile_interface
from .jit._torch import PyRRef
from .jit.lower import packed_name
from .jit.model import Method, Required
from .jit.plan import crosses_otherwise
from .values import Translator

_ROUTE = "_torchremote_route"
_METHODS = "_torchremote_methods"


@dataclass(frozen=True)
class Route:
    """From a stub to its module."""

    worker: str
    device: str
    placement: Placement
    handle: int
    devices: tuple[torch.device, ...]  # those that the device map to the worker knows
    lease: PyRRef[Any] | None  # None: the module is served, and lives without stubs
    timeout: float | None  # seconds that a call may take; None: RPC's own default


def make_stub(compiled: CompiledInterface, route: Route) -> Any:
    """A stub of its own, of the one class that the interface's stubs share; nothing is compiled."""
    stub = _torch.copy_module(compiled.stub, _face_of(compiled))
    timeout = -1.0 if route.timeout is None else route.timeout  # torch's mark for its default
    compiled.contract.connect[route.placement](
        stub, route.worker, route.handle, timeout, list(route.devices), route.lease
    )
    stub.__dict__[_ROUTE] = route
    stub.__dict__[_METHODS] = {name: _torch.scripted_method(stub, name) for name in _method_names(compiled)}
    return stub


def with_timeout(stub: Any, timeout: float | None) -> Any:
    """The same remote module through a stub with another timeout; the first keeps its own.

    Args:
        timeout: seconds that a call may take; 0 for no limit, None for RPC's default.

    The new stub is made in microseconds, so a single call can have a timeout of its own:
    `torchremote.with_timeout(encoder, 0.5)(x)`.
    """
    route = getattr(stub, "__dict__", {}).get(_ROUTE)
    if not isinstance(stub, Stub) or route is None:
        raise InterfaceError(
            f"with_timeout: {type(stub).__name__} is no stub; pass what create() or connect() returned"
        )
    return make_stub(stub._torchremote_compiled, replace(route, timeout=check_timeout(timeout)))


def at_placement(stub: Any, placement: Placement) -> Any:
    """The same remote module as if it were in `placement`: for tests, to which all placements are the same on a CPU."""
    return make_stub(stub._torchremote_compiled, replace(stub.__dict__[_ROUTE], placement=placement))


def check_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, (int, float))
        or not (math.isfinite(timeout) and timeout >= 0)
    ):
        raise ValueError(f"timeout={timeout!r}: seconds, 0 for no limit, or None for RPC's default")
    return float(timeout)


def remote_interface(interface: type) -> type:
    """The TorchScript interface of an interface's *stubs*: every method `<m>`, and `<m>_async`, which returns a Future.

    For annotations: a module with an attribute of this type can call a stub without waiting for it, in TorchScript.

    >>> import torch
    >>> class Doubler:
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> class Twice(torch.nn.Module):
    ...     doubler: remote_interface(Doubler)
    """
    return compile_interface(interface).remote_interface


class Stub(torch.jit.RecursiveScriptModule):
    """What `create` and `connect` return: the methods of the interface, and for every `<m>` an `<m>_async`."""

    _torchremote_compiled: CompiledInterface

    def __copy__(self) -> Any:
        return make_stub(self._torchremote_compiled, self.__dict__[_ROUTE])

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Any:
        return self.__copy__()  # another stub of the one module, which is not copied

    def extra_repr(self) -> str:
        route: Route | None = self.__dict__.get(_ROUTE)
        place = "not connected" if route is None else f"on {route.worker}/{route.device}"
        return f"{self._torchremote_compiled.interface.name} {place}"


def _method_names(compiled: CompiledInterface) -> list[str]:
    names: list[str] = []
    for method in compiled.interface.methods:
        names += [packed_name(method.name)] if _translates(method) else [method.name, f"{method.name}_async"]
    return names


def _translates(method: Method) -> bool:
    """Whether Python packs and unpacks the method's values, and so calls past the TorchScript that does it."""
    return any(map(crosses_otherwise, method.types))


@functools.cache
def _face_of(compiled: CompiledInterface) -> type[Stub]:
    members: dict[str, Any] = {"_torchremote_compiled": compiled, "__module__": __name__}
    for method in compiled.interface.methods:
        calls = _Calls(compiled, method)
        pair = (
            (calls.translating(), calls.translating_async())
            if _translates(method)
            else (calls.plain(), calls.plain_async())
        )
        for call, name in zip(pair, (method.name, f"{method.name}_async"), strict=True):
            call.__name__ = call.__qualname__ = name
            call.__signature__ = calls.signature  # type: ignore[attr-defined]
            members[name] = call
    return type(f"{compiled.interface.name}Stub", (Stub,), members)


class _Calls:
    """The Python methods of a stub for one method of its interface."""

    def __init__(self, compiled: CompiledInterface, method: Method) -> None:
        self.where = f"{compiled.interface.name}.{method.name}"
        self.method = method
        self.translator = Translator(compiled.contract.classes)
        self.signature = _signature(method, self.translator)
        self._fitting = {argument.name: fitting(argument.type) for argument in method.arguments}
        self._fitting_in_order = tuple(self._fitting[a.name] for a in method.arguments if not a.keyword_only)

    # -- nothing to translate: TorchScript takes the arguments, and checks them

    def plain(self) -> Callable[..., Any]:
        name = self.method.name

        def call(self_: Stub, /, *args: Any, **kwargs: Any) -> Any:
            self._check_context()
            try:
                with _torch.as_plain_tensors():
                    if not self._fits(args, kwargs):
                        return self._call_packed(self_.__dict__[_METHODS][name], args, kwargs)
                    return self_.__dict__[_METHODS][name](*args, **kwargs)
            except FAILURES as error:
                raise self._failure(self_, error, args, kwargs) from None  # the message has all of it

        return call

    def plain_async(self) -> Callable[..., Any]:
        name = f"{self.method.name}_async"

        def call(self_: Stub, /, *args: Any, **kwargs: Any) -> Any:
            self._check_context()
            try:
                with _torch.as_plain_tensors():
                    if not self._fits(args, kwargs):
                        future = self._call_packed(self_.__dict__[_METHODS][name], args, kwargs)
                    else:
                        future = self_.__dict__[_METHODS][name](*args, **kwargs)
            except FAILURES as error:
                raise self._failure(self_, error, args, kwargs) from None
            return self._settled(self_, future, lambda value: value)

        return call

    # -- values that Python packs and unpacks

    def translating(self) -> Callable[..., Any]:
        def call(self_: Stub, /, *args: Any, **kwargs: Any) -> Any:
            future = self._send(self_, args, kwargs)
            try:
                value = future.wait()
            except FAILURES as error:
                raise self._failure(self_, error) from None
            return self.translator.unpack(value, self.method.returns)

        return call

    def translating_async(self) -> Callable[..., Any]:
        def call(self_: Stub, /, *args: Any, **kwargs: Any) -> Any:
            future = self._send(self_, args, kwargs)
            return self._settled(self_, future, lambda value: self.translator.unpack(value, self.method.returns))

        return call

    def _send(self, stub: Stub, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._check_context()
        packed = self._pack(args, kwargs)
        try:
            with _torch.as_plain_tensors():
                return stub.__dict__[_METHODS][packed_name(self.method.name)](*packed)
        except FAILURES as error:
            raise self._failure(stub, error) from None

    def _fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether all arguments are what is declared, so that TorchScript need not guess: it takes None for False."""
        if len(args) > len(self._fitting_in_order):
            return False
        for fits, value in zip(self._fitting_in_order, args, strict=False):
            if not fits(value):
                return False
        return all(name in self._fitting and self._fitting[name](value) for name, value in kwargs.items())

    def _call_packed(self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        packed = self._pack(args, kwargs)
        count = len(self._fitting_in_order)
        names = (argument.name for argument in self.method.arguments[count:])
        return method(*packed[:count], **dict(zip(names, packed[count:], strict=True)))

    def _pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        try:
            bound = self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.where}: {error}") from None
        bound.apply_defaults()
        return [
            self.translator.pack(bound.arguments[argument.name], argument.type, f"{self.where}.{argument.name}")
            for argument in self.method.arguments
        ]

    # -- failures

    def _check_context(self) -> None:
        # Its tensors would end the process: see jit/tensors.py, Note [Tensors that hurt].
        if _torch.is_transforming():
            raise ArgumentError(
                f"{self.where}: called under a torch.func transform such as vmap, whose tensors cannot cross; "
                "call it outside"
            )

    def _failure(
        self, stub: Stub, error: Exception, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None
    ) -> TorchRemoteError:
        """What to raise for `error`. `args`, `kwargs`: of a call that TorchScript took as they were."""
        route = stub.__dict__[_ROUTE]
        failure = explain(error, self.where, route.worker, route.handle)
        if args is not None and isinstance(failure, ArgumentError):
            # torch names the argument at best; packing says where in it, and that an argument is None.
            try:
                self._pack(args, kwargs or {})
            except ArgumentError as precise:
                return precise
        return failure

    def _settled(self, stub: Stub, future: Any, unpack: Callable[[Any], Any]) -> Any:
        def settle(done: torch.futures.Future[Any]) -> Any:
            try:
                return unpack(done.value())
            except FAILURES as error:
                return _Failure(self._failure(stub, error))

        # An exception out of a callback would reach the waiter as text; torch's own way is to raise on unwrapping.
        settled = future.then(settle)
        _torch.check_on_unwrap(settled, _raise_failure)
        return settled


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _raise_failure(value: object) -> None:
    if isinstance(value, _Failure):
        raise value.error


def _signature(method: Method, translator: Translator) -> inspect.Signature:
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for argument in method.arguments:
        kind = inspect.Parameter.KEYWORD_ONLY if argument.keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default: Any = inspect.Parameter.empty
        if not isinstance(argument.default, Required):
            default = translator.value_of(argument.default)
        parameters.append(inspect.Parameter(argument.name, kind, default=default, annotation=str(argument.type)))
    if any(parameter.name == "self" for parameter in parameters[1:]):
        parameters[0] = parameters[0].replace(name="self_")
    return inspect.Signature(parameters, return_annotation=str(method.returns))
