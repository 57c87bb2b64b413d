"""Stubs: scripted modules whose methods run elsewhere, with a Python face.

The scripted part is generated (jit/lower/stub.py), what Python calls is in calls.py; here the two are put together.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch

from .. import _torch
from ..errors import InterfaceError, NotSavableError
from ..jit import CompiledInterface, Interface, Placement, compile_interface
from ..link.places import find_place, placement_at
from ..link.saved import refuse_before_saving
from ..owner import leases
from .batches import many_calls
from .calls import METHODS, Route, called_names, connect, python_calls, route_of

Bases = tuple[type, ...]  # importable, for a stub is sent with them


def make_stub(compiled: CompiledInterface, route: Route, bases: Bases = ()) -> Any:
    """A stub of its own, of the one class that the interface's stubs share; nothing is compiled.

    Args:
        bases: what its Python class derives from before `Stub`.
    """
    stub = attach(_torch.copy_module(compiled.stub), compiled, route)
    if bases:
        object.__setattr__(stub, "__class__", _face_of(compiled, bases))
    return stub


def attach(scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route) -> Any:
    """Has a scripted stub call the module that `route` leads to, and gives it its Python face."""
    refuse_before_saving()
    connect(scripted, compiled, route)
    stub = _torch.as_class(scripted, _face_of(compiled))
    stub.__dict__[METHODS] = {name: _torch.scripted_method(stub, name) for name in called_names(compiled)}
    return stub


def alike(stub: Stub, route: Route) -> Any:
    """Another stub along `route`, with the same class, and the same attributes from the user's code."""
    return _with_own(make_stub(stub._torchremote_compiled, route, stub._torchremote_bases), *_own(stub))


def _own(stub: Stub) -> tuple[bool, dict[str, Any]]:
    """What the user's code gave a stub: whether it trains, and its attributes."""
    every = {*stub._torchremote_compiled.stub.__dict__, METHODS}
    return stub.training, {name: value for name, value in stub.__dict__.items() if name not in every}


def _with_own(stub: Any, training: bool, attributes: dict[str, Any]) -> Any:
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
    """What a stub calls, and how. `asked`: the function that was given it.

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
    """The same remote module through a stub with another timeout; the first keeps its own.

    Args:
        timeout: seconds that a call may take; 0 for no limit, None for RPC's default.

    The new stub is made in microseconds, so a single call can have a timeout of its own:
    `torchremote.with_timeout(encoder, 0.5)(x)`.
    """
    route, _ = route_and_interface(stub, "with_timeout")
    return alike(stub, replace(route, timeout=check_timeout(timeout)))


def at_placement(stub: Any, placement: Placement) -> Any:
    """The same remote module as if it were in `placement`: for tests, to which all placements are the same on a CPU."""
    route, _ = route_and_interface(stub, "at_placement")
    return alike(stub, replace(route, placement=placement))


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
    """The TorchScript interface of an interface's *stubs*: `<m>`, `<m>_async`, `<m>_many` and `<m>_many_async`.

    For annotations: a module with an attribute of this type can call a stub without waiting for it, in TorchScript, or
    make many calls at once, as a list of tuples of all arguments.

    >>> import torch
    >>> class Doubler:
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> class Twice(torch.nn.Module):
    ...     doubler: remote_interface(Doubler)
    """
    return compile_interface(interface).remote_interface


class _Face(type(torch.jit.RecursiveScriptModule)):  # type: ignore[misc]
    """The class of the classes of stubs, which nobody can import: by it, RPC's pickler knows them."""


class Stub(torch.jit.RecursiveScriptModule, metaclass=_Face):
    """What `create` and `connect` return: the methods of the interface, and for every `<m>` others, which this makes.

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
        return alike(self, route_and_interface(self, "copy")[0])

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Any:
        # Another stub of the one module, which is not copied.
        return _with_own(self.__copy__(), *copy.deepcopy(_own(self), memo))

    def extra_repr(self) -> str:
        route, _ = route_and_interface(self, "repr")
        name = "" if route.name is None else f"{route.name!r} "
        return f"{self._torchremote_compiled.interface.name} {name}on {route.worker}/{route.device}"


@functools.cache
def _face_of(compiled: CompiledInterface, bases: Bases = ()) -> type[Stub]:
    members: dict[str, Any] = {"__module__": __name__}
    if bases:
        members["_torchremote_bases"] = bases
    else:
        members["_torchremote_compiled"] = compiled
        for method in compiled.interface.methods:
            for call in (*python_calls(compiled, method), *many_calls(compiled, method)):
                members[call.__name__] = call
    # What the user's class overrides, stays overridden.
    bases = (*bases, _face_of(compiled)) if bases else (Stub,)
    face: type[Stub] = _Face(f"{compiled.interface.name}Stub", bases, members)
    _torch.send_as(face, _taken_apart)
    return face


# -- as arguments and results of RPC


def _taken_apart(stub: Stub) -> tuple[Any, ...]:
    route, compiled = route_and_interface(stub, "RPC")
    return _received, (compiled.interface, stub._torchremote_bases, _own(stub), SentRoute.of(route))


def _face_taken_apart(face: type[Stub]) -> str | tuple[Any, ...]:
    """torch asks an RRef's owner for the class of its value."""
    if face is Stub:
        return "Stub"
    return _face_received, (face._torchremote_compiled.interface, face._torchremote_bases)


_torch.send_as(_Face, _face_taken_apart)


def _face_received(interface: Interface, bases: Bases) -> type[Stub]:
    return _face_of(compile_interface(interface), bases)


def _received(interface: Interface, bases: Bases, own: tuple[bool, dict[str, Any]], sent: SentRoute) -> Any:
    return _with_own(make_stub(compile_interface(interface), sent.from_here(), bases), *own)


@dataclass(frozen=True)
class SentRoute:
    """A route on its way to another worker, with a ticket in the place of its lease."""

    route: Route
    ticket: str | None

    @staticmethod
    def of(route: Route) -> SentRoute:
        ticket = None if route.lease is None else leases.send(route.worker, route.handle, route.lease)
        return SentRoute(replace(route, lease=None), ticket)

    def from_here(self) -> Route:
        """The way from this worker to where the route led from the sender."""
        worker, handle = self.route.worker, self.route.handle
        lease = None if self.ticket is None else leases.receive(worker, handle, self.ticket)
        devices = _torch.mapped_devices(find_place(worker).worker)
        return replace(
            self.route, placement=placement_at(self.route.device, devices), devices=tuple(devices), lease=lease
        )
