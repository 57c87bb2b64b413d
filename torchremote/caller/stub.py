"""Stubs: scripted modules whose methods run elsewhere, and which have Python methods, too.

The scripted part is generated (jit/lower/stub.py); calls.py and batches.py make the Python methods. Here the two are
put together.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import torch

from .. import _torch
from ..errors import InterfaceError, NotSavableError
from ..jit import CompiledInterface, compile_interface
from ..link.route import Route, route_of, set_route
from .batches import many_calls
from .calls import METHODS, called_names, python_calls
from .saving import refuse_before_saving

Bases = tuple[type, ...]  # importable, for a stub is sent with them


def make_stub(compiled: CompiledInterface, route: Route, bases: Bases = ()) -> Any:
    """Makes a stub, of the one class that the interface's stubs share. Nothing is compiled.

    Args:
        bases: what its Python class derives from before `Stub`.
    """
    stub = attach(_torch.copy_module(compiled.stub), compiled, route)
    if bases:
        object.__setattr__(stub, "__class__", stub_class(compiled, bases))
    return stub


def attach(scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route) -> Any:
    """Has a scripted stub call the module that `route` leads to, and gives it its Python methods."""
    refuse_before_saving()
    set_route(scripted, compiled, route)
    stub = _torch.as_class(scripted, stub_class(compiled))
    stub.__dict__[METHODS] = {name: _torch.scripted_method(stub, name) for name in called_names(compiled)}
    return stub


def stub_along(stub: Stub, route: Route) -> Any:
    """Makes another stub along `route`, of the same class, with the same attributes from the user's code."""
    return give_own(make_stub(stub._torchremote_compiled, route, stub._torchremote_bases), *own_of(stub))


def own_of(stub: Stub) -> tuple[bool, dict[str, Any]]:
    """Returns what the user's code gave a stub: whether it trains, and its attributes."""
    every = {*stub._torchremote_compiled.stub.__dict__, METHODS}
    return stub.training, {name: value for name, value in stub.__dict__.items() if name not in every}


def give_own(stub: Any, training: bool, attributes: dict[str, Any]) -> Any:
    """Gives a stub what `own_of` returned of another one."""
    stub.training = training
    stub.__dict__.update(attributes)
    return stub


def become_stub(module: torch.nn.Module, compiled: CompiledInterface, route: Route, *bases: type) -> None:
    """Turns a module into a stub, which goes on being an instance of its class, and is one of `bases`."""
    stub = make_stub(compiled, route, (*bases, type(module)))
    every = vars(torch.nn.Module())
    stub.__dict__.update((name, value) for name, value in module.__dict__.items() if name not in every)
    object.__setattr__(module, "__dict__", stub.__dict__)
    object.__setattr__(module, "__class__", type(stub))


def route_and_interface(stub: object, asked: str) -> tuple[Route, CompiledInterface]:
    """Returns what a stub calls, and through which interface. `asked`: the function that was given it.

    Raises:
        InterfaceError: `stub` is none.
    """
    if isinstance(stub, Stub):
        route = route_of(stub)
        if route is not None:
            return route, stub._torchremote_compiled
    raise InterfaceError(
        f"{asked}: {type(stub).__name__} is no stub; pass what create(), connect() or reconnect() returned, or a "
        "RemoteModule with an interface"
    )


def with_timeout(stub: Any, timeout: float | None) -> Any:
    """Returns a stub of the same remote module with another timeout; the first keeps its own.

    Args:
        stub: what `create`, `connect` or `reconnect` returned.
        timeout: seconds that a call may take; 0 for no limit, None for RPC's default.

    Raises:
        InterfaceError: `stub` is none.
        ValueError: `timeout` is no number of seconds.

    The new stub is made in microseconds, so a single call can have a timeout of its own:
    `torchremote.with_timeout(encoder, 0.5)(x)`.
    """
    route, _ = route_and_interface(stub, "with_timeout")
    return stub_along(stub, replace(route, timeout=check_timeout(timeout)))


def check_timeout(timeout: float | None) -> float | None:
    """Returns a timeout in seconds as a float, or raises ValueError for what is none."""
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
    """Returns the TorchScript interface of an interface's *stubs*: `<m>`, `<m>_async`, `<m>_many`, `<m>_many_async`.

    For annotations: in TorchScript, a module with an attribute of this type can call a stub without waiting for it, or
    make many calls at once, as a list of tuples of all arguments.

    Args:
        interface: a class of annotated methods.

    Raises:
        InterfaceError: `interface` has a signature that cannot cross.

    >>> import torch
    >>> class Doubler:
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> class Twice(torch.nn.Module):
    ...     doubler: remote_interface(Doubler)
    """
    return compile_interface(interface).remote_interface


class StubClass(type(torch.jit.RecursiveScriptModule)):  # type: ignore[misc]
    """Metaclass of generated stub classes. They cannot be imported by name, so RPC's pickler knows them by it."""

    reduce_for_rpc: Callable[[Any], tuple[Any, ...]]
    """Takes a stub apart for RPC's pickler; send_stub.py sets it, which also makes stubs."""


class Stub(torch.jit.RecursiveScriptModule, metaclass=StubClass):
    """Stands for a module elsewhere: what `create` and `connect` return.

    A stub has the methods of its interface, and for every `<m>` others, which this makes:

    * `<m>_async(...)`: a `torch.futures.Future` of the result.
    * `<m>_many(calls, return_exceptions=False)`: results of many calls, in order. A call is a tuple of arguments,
      keyword-only ones last, of which those with a default may be left out, or a mapping from their names. All travel
      in one message and run in their order; the first that fails ends the batch, and the error says which it was.
      With `return_exceptions`, each is a message of its own, they run at the same time, and a failure is a result.
    * `<m>_many_async(...)`: a Future of that.
    """

    _torchremote_compiled: CompiledInterface
    _torchremote_bases: Bases = ()

    def __getstate__(self) -> NoReturn:
        name = self._torchremote_compiled.interface.name
        raise NotSavableError(
            f"{name}: a stub is not pickled, but by RPC; torch.jit.save it, or a scripted model that holds it"
        )

    def __copy__(self) -> Any:
        return stub_along(self, route_and_interface(self, "copy")[0])

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Any:
        # Another stub of the one module, which is not copied.
        return give_own(self.__copy__(), *copy.deepcopy(own_of(self), memo))

    def extra_repr(self) -> str:
        route, _ = route_and_interface(self, "repr")
        name = "" if route.name is None else f"{route.name!r} "
        return f"{self._torchremote_compiled.interface.name} {name}on {route.worker}/{route.device}"


@functools.cache
def stub_class(compiled: CompiledInterface, bases: Bases = ()) -> type[Stub]:
    """Makes the Python class of an interface's stubs. `bases`: what it derives from before `Stub`."""
    members: dict[str, Any] = {"__module__": __name__}
    if bases:
        members["_torchremote_bases"] = bases
        bases = (*bases, stub_class(compiled))  # what the user's class overrides, stays overridden
    else:
        members["_torchremote_compiled"] = compiled
        for method in compiled.interface.methods:
            for call in (*python_calls(compiled, method), *many_calls(compiled, method)):
                members[call.__name__] = call
        bases = (Stub,)
    cls: type[Stub] = StubClass(f"{compiled.interface.name}Stub", bases, members)
    _torch.send_as(cls, StubClass.reduce_for_rpc)
    return cls
