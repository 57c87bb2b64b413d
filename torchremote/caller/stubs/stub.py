"""Stubs: scripted modules whose methods run on another worker, with a Python method for each scripted one.

jit/lower/stub.py generates the scripted part, calls/ makes the Python methods, and this file puts the two together.

Note [Set from elsewhere]
    Some of what stubs do needs stubs itself, so it cannot be in the files that define them. These files set it when
    they are imported, as by torchremote's `__init__`:

    * stubs/as_module.py: `train`, `parameters` and whatever else a module has; replicas/as_module.py, of replicas;
    * stubs/send_stub.py and replicas/send_replicas.py: `reduce_for_rpc` of their classes, for RPC's pickler;
    * stubs/send_model.py: how RPC's pickler takes scripted models apart that hold stubs;
    * finding/follow.py and finding/failed_calls.py: `find`, `with_timeout` and `decide_failed` of `NamedStubMethods`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import torch

from ... import _torch
from ...errors import InterfaceError, NotSavableError
from ...jit import CompiledInterface, compile_interface
from ...jit.script.cache import Cache
from ...link.grace import keep_for_readers
from ...link.route import Route, route_of, set_route
from ...link.timeouts import check_timeout
from ...locks import new_lock
from ...typing import StubT
from ..calls.batches import many_calls
from ..calls.following import DEVICES, METHODS, NamedStubMethods, methods_of
from ..calls.profiled import profiled
from ..calls.references import remote_call
from ..calls.single import Calls, called_names, python_calls
from . import shown
from .as_python import AsPython
from .assigned import check_deleted, takes
from .copying import keep_stubs_in_copies
from .saving import refuse_before_saving
from .shared_mode import SHARED, share_mode

Bases = tuple[type, ...]  # importable, since a stub is sent with them


def make_stub(compiled: CompiledInterface, route: Route, bases: Bases = ()) -> Any:
    """Makes a stub. All stubs of an interface share one class, and nothing is compiled.

    Args:
        bases: the classes from which its Python class derives before `Stub`.
    """
    stub = attach(_torch.copy_module(compiled.stub), compiled, route)
    if bases:
        object.__setattr__(stub, "__class__", stub_class(compiled, bases))
    return stub


def attach(
    scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route, *, is_called: bool = False
) -> Any:
    """Connects a scripted stub to the module that `route` leads to, and gives it its Python methods.

    A stub that was connected before stays the same object, with all that the user's code set on it.

    Args:
        is_called: other threads may be calling the stub.
    """
    refuse_before_saving()
    keep_stubs_in_copies()
    (exchange_route if is_called else set_route)(scripted, compiled, route)
    stub = scripted if isinstance(scripted, Stub) else _torch.as_class(scripted, stub_class(compiled))
    share_mode(stub, route.worker, route.handle, route.training)
    stub.__dict__[DEVICES] = [device for device in route.devices if device.type != "cpu"]
    stub.__dict__[METHODS] = methods_of(stub, compiled, called_names(compiled), route)
    return stub


_exchanging = new_lock()


def exchange_route(scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route) -> None:
    """Has a scripted stub lead elsewhere that others may call: see calls/following.py, Note [Stubs that follow]."""
    with _exchanging:  # no link may be let go that was not kept, so no other thread may exchange it in between
        keep_for_readers(_torch.copy_module(scripted))
        set_route(scripted, compiled, route)
        # If this is the handler of a signal, the thread may be between the lines above, and let go of this link, too.
        keep_for_readers(_torch.copy_module(scripted))


def stub_along(stub: Stub, route: Route) -> Any:
    """Makes another stub of the same class that follows `route`. It gets the attributes that the user's code set."""
    return give_own(make_stub(stub._torchremote_compiled, route, stub._torchremote_bases), own_of(stub))


def own_of(stub: Stub) -> dict[str, Any]:
    """Returns the attributes that the user's code set on a stub."""
    scripted = stub._torchremote_compiled.stub.__dict__
    every = {*scripted, METHODS, DEVICES, SHARED}
    return {
        name: value
        for name, value in stub.__dict__.items()
        if name not in every
        # A function that they set in the place of a method of the interface.
        or (isinstance(scripted.get(name), torch.ScriptMethod) and not isinstance(value, torch.ScriptMethod))
    }


def give_own(stub: Any, attributes: dict[str, Any]) -> Any:
    """Gives a stub the attributes that `own_of` returned for another one."""
    stub.__dict__.update(attributes)
    return stub


def become_stub(module: torch.nn.Module, compiled: CompiledInterface, route: Route, *bases: type) -> None:
    """Turns a module into a stub. It stays an instance of its own class, and becomes one of `bases`."""
    stub = make_stub(compiled, route, (*bases, type(module)))
    every = vars(torch.nn.Module())
    stub.__dict__.update((name, value) for name, value in module.__dict__.items() if name not in every)
    object.__setattr__(module, "__dict__", stub.__dict__)
    object.__setattr__(module, "__class__", type(stub))
    share_mode(module, route.worker, route.handle, route.training)


def route_and_interface(stub: object, asked: str) -> tuple[Route, CompiledInterface]:
    """Returns a stub's route and interface.

    Args:
        asked: the function to which the user gave `stub`. The error names it.

    Raises:
        InterfaceError: `stub` is no stub.
    """
    if isinstance(stub, Stub):
        route = route_of(stub)
        if route is not None:
            methods = stub.__dict__[METHODS]
            if isinstance(methods, NamedStubMethods):  # the link does not say these
                route = replace(route, followed=methods.followed, number=methods.number)
            return route, stub._torchremote_compiled
    if isinstance(stub, SeveralModules):
        raise InterfaceError(
            f"{asked}: {type(stub).__name__} stands for modules on several workers; connect to each of them alone, and "
            "pass that stub"
        )
    raise InterfaceError(
        f"{asked}: {type(stub).__name__} is no stub; pass what create(), connect() or reconnect() returned, or a "
        "RemoteModule with an interface"
    )


def with_timeout(stub: StubT, timeout: float | None) -> StubT:
    """Makes a stub of the same remote module, or of the same replicas, with another timeout. The first keeps its own.

    Nothing is sent or compiled, so even a single call can have its own timeout.

    Args:
        stub: a stub, as `create`, `connect` or `reconnect` returns it.
        timeout: seconds that a call may take; 0 for no limit, None for RPC's default. Part of a millisecond counts as
            a whole one, and more than 2,147,483 seconds, which torch does not have, count as that.

    Returns:
        The new stub.

    Raises:
        InterfaceError: `stub` is no stub.
        ValueError: `timeout` is no number of seconds.

    With a stub `layer` of a `torch.nn.Linear(4, 2)`:

    >>> with_timeout(layer, 0.5)(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """
    again: StubT
    if isinstance(stub, SeveralModules):
        again = stub.along(check_timeout(timeout))
        return again
    route, _ = route_and_interface(stub, "with_timeout")
    assert isinstance(stub, Stub)
    again = stub_along(stub, replace(route, timeout=check_timeout(timeout)))
    return again


def remote_interface(interface: type) -> type:
    """Returns the TorchScript interface of an interface's *stubs*: `<m>`, `<m>_async`, `<m>_many`, `<m>_many_async`.

    It is for annotations. A scripted module with an attribute of this type can call a stub without waiting for the
    result. It can also make many calls at once, from a list of tuples; each tuple has all arguments of one call.

    Args:
        interface: a class of annotated methods.

    Returns:
        The TorchScript interface, as a Python class.

    Raises:
        InterfaceError: `interface` has a signature that cannot cross.

    >>> import torch
    >>> class Doubler:
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> class Twice(torch.nn.Module):
    ...     doubler: remote_interface(Doubler)
    """
    return compile_interface(interface).remote_interface


class SeveralModules(torch.nn.Module):
    """Stands for modules on several workers. It has the methods of stubs, and is none: see replicas/as_module.py."""

    along: Callable[[float | None], Any]
    """Makes another one for the same modules, with another timeout. replicas/as_module.py defines it."""


class StubClass(type(torch.jit.RecursiveScriptModule)):  # type: ignore[misc]
    """Metaclass of generated stub classes. They cannot be imported by name, so RPC's pickler knows them by it."""

    reduce_for_rpc: Callable[[Any], tuple[Any, ...]]
    """Takes a stub apart for RPC's pickler: see Note [Set from elsewhere]."""


class Stub(AsPython, torch.jit.RecursiveScriptModule, metaclass=StubClass):
    """Stands for a module on another worker. `create` and `connect` return stubs.

    A stub has the methods of its interface, and four more for every method `<m>`:

    * `<m>_async(...)` returns a `torch.futures.Future` of the result.
    * `<m>_many(calls, return_exceptions=False)` makes many calls and returns their results in order. A call is a tuple
      of arguments, keyword-only ones last, or a mapping from their names. Arguments with a default may be left out. All
      calls travel in one message and run in their order. The first that fails ends the batch, and the error says which
      it was. With `return_exceptions`, each call is a message of its own, the calls run at the same time, and an error
      stands in the place of a result.
    * `<m>_many_async(...)` returns a Future of that list.
    * `<m>_remote(...)` returns an RRef of the result, which stays where the module is. Another stub takes it for an
      argument that is declared an RRef. TorchScript has no such method.

    A call raises `ArgumentError` if its arguments do not fit the method; then nothing was sent. It raises `RemoteError`
    if the method raised, and `StaleStubError`, which is one, if the module is gone. It raises `CallTimeoutError` if no
    answer came in time, `NotInGroupError` if the worker is not there, and `WireError`, which both are, if the call got
    lost. After the end of RPC it raises `NotInitializedError`. A Future raises these errors when it is waited for.

    Threads may share a stub.

    With a stub `layer` of a `torch.nn.Linear(4, 2)`:

    >>> x = torch.ones(3, 4)
    >>> layer(x).shape
    torch.Size([3, 2])
    >>> future = layer.forward_async(x)
    >>> future.wait().shape
    torch.Size([3, 2])
    >>> len(layer.forward_many([(x,), (x,)]))
    2
    """

    _torchremote_bases: Bases = ()
    _torchremote_refuse: Callable[[str, str], NoReturn]
    """Refuses a method, with what to write instead. as_module.py sets this."""

    def _torchremote_own(self) -> dict[str, Any]:
        return own_of(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if SHARED not in self.__dict__ or takes(self._torchremote_compiled.interface.name, name, value, self.training):
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if SHARED in self.__dict__:
            check_deleted(self._torchremote_compiled.interface.name, name)
        super().__delattr__(name)

    def __getstate__(self) -> NoReturn:
        name = self._torchremote_compiled.interface.name
        raise NotSavableError(
            f"{name}: a stub is not pickled, but by RPC; torch.jit.save it, or a scripted model that holds it"
        )

    def __copy__(self) -> Any:
        return stub_along(self, route_and_interface(self, "copy")[0])

    def extra_repr(self) -> str:
        route, compiled = route_and_interface(self, "repr")
        return shown.line(compiled, route)

    def _repr_html_(self) -> str:
        route, compiled = route_and_interface(self, "repr")
        return shown.table(compiled, route)


_classes: Cache[tuple[CompiledInterface, Bases], type[Stub]] = Cache()


def stub_class(compiled: CompiledInterface, bases: Bases = ()) -> type[Stub]:
    """Returns the Python class of an interface's stubs. `bases`: the classes from which it derives before `Stub`."""
    return _classes.get((compiled, bases), lambda: _make_class(compiled, bases))


def _make_class(compiled: CompiledInterface, bases: Bases) -> type[Stub]:
    members: dict[str, Any] = {"__module__": __name__}
    if bases:
        members["_torchremote_bases"] = bases
        bases = (*bases, stub_class(compiled))  # a method that the user's class overrides stays overridden
    else:
        members["_torchremote_compiled"] = compiled
        if compiled.as_written.doc:
            members["__doc__"] = compiled.as_written.doc
        for method in compiled.interface.methods:
            calls = Calls(compiled, method)
            ranged = (profiled(call, compiled, method) for call in (*many_calls(calls), remote_call(calls)))
            members |= {call.__name__: call for call in (*python_calls(calls), *ranged)}
        bases = (Stub,)
    cls: type[Stub] = StubClass(f"{compiled.interface.name}Stub", bases, members)
    _torch.send_as(cls, StubClass.reduce_for_rpc)
    return cls
