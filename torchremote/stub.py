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

from .errors import InterfaceError
from .failures import explain
from .jit import CompiledInterface, Placement, _torch, compile_interface
from .jit._torch import PyRRef

_ROUTE = "_torchremote_route"
_METHODS = "_torchremote_methods"


@dataclass(frozen=True)
class Route:
    """From a stub to its module."""

    worker: str
    device: str
    placement: Placement
    handle: int
    lease: PyRRef[Any] | None  # None: the module is served, and lives without stubs
    timeout: float | None  # seconds that a call may take; None: RPC's own default


def make_stub(compiled: CompiledInterface, route: Route) -> Any:
    """A stub of its own, of the one class that the interface's stubs share; nothing is compiled."""
    stub = _torch.copy_module(compiled.stub, _face_of(compiled))
    timeout = -1.0 if route.timeout is None else route.timeout  # torch's mark for its default
    compiled.contract.connect[route.placement](stub, route.worker, route.handle, timeout, route.lease)
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
    names = [method.name for method in compiled.interface.methods]
    return [*names, *(f"{name}_async" for name in names)]


@functools.cache
def _face_of(compiled: CompiledInterface) -> type[Stub]:
    members: dict[str, Any] = {"_torchremote_compiled": compiled, "__module__": __name__}
    for method in compiled.interface.methods:
        signature = _signature(compiled, method.name)
        where = f"{compiled.interface.name}.{method.name}"
        for call in (_blocking(where, method.name), _deferred(where, f"{method.name}_async")):
            call.__signature__ = signature  # type: ignore[attr-defined]
            members[call.__name__] = call
    return type(f"{compiled.interface.name}Stub", (Stub,), members)


def _blocking(where: str, name: str) -> Callable[..., Any]:
    def call(self: Stub, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.__dict__[_METHODS][name](*args, **kwargs)
        except RuntimeError as error:
            route = self.__dict__[_ROUTE]
            raise explain(error, where, route.worker, route.handle) from None  # the message has all of it

    call.__name__ = call.__qualname__ = name
    return call


def _deferred(where: str, name: str) -> Callable[..., Any]:
    def call(self: Stub, *args: Any, **kwargs: Any) -> Any:
        route = self.__dict__[_ROUTE]

        def settle(done: torch.futures.Future[Any]) -> Any:
            try:
                return done.value()
            except RuntimeError as error:
                return _Failure(explain(error, where, route.worker, route.handle))

        try:
            future = self.__dict__[_METHODS][name](*args, **kwargs)
        except RuntimeError as error:
            raise explain(error, where, route.worker, route.handle) from None
        # An exception out of a callback would reach the waiter as text; torch's own way is to raise on unwrapping.
        settled = future.then(settle)
        _torch.check_on_unwrap(settled, _raise_failure)
        return settled

    call.__name__ = call.__qualname__ = name
    return call


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _raise_failure(value: object) -> None:
    if isinstance(value, _Failure):
        raise value.error


def _signature(compiled: CompiledInterface, name: str) -> inspect.Signature:
    method = compiled.interface.method(name)
    assert method is not None
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for argument in method.arguments:
        kind = inspect.Parameter.KEYWORD_ONLY if argument.keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default = argument.default if argument.has_default else inspect.Parameter.empty
        parameters.append(inspect.Parameter(argument.name, kind, default=default, annotation=str(argument.type)))
    if any(parameter.name == "self" for parameter in parameters[1:]):
        parameters[0] = parameters[0].replace(name="self_")
    return inspect.Signature(parameters, return_annotation=str(method.returns))
