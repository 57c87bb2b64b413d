"""What Python calls of a stub: arguments are checked, failures explained, and values packed where that is needed.

Nothing is added to what crosses. A call is passed on to the stub's scripted methods, and torch's account of a failure
is turned into one that begins with what the user knows.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

from .. import _torch
from .._torch import PyRRef
from ..errors import ArgumentError, TorchRemoteError
from ..jit import CompiledInterface, Placement
from ..jit.lower import ADDRESS, WIRE, field, packed_name
from ..jit.lower.plan import is_called_packed
from ..jit.read.model import Method, Required
from ..link.failures import FAILURES, explain
from ..link.values import Translator
from .quick_check import TENSORS, classes_that_fit, fitting

# Where a stub keeps its scripted methods, by name.
METHODS = "_torchremote_methods"


@dataclass(frozen=True)
class Route:
    """From a stub to its module."""

    worker: str
    name: str | None  # under which the module is served; None: it lives as long as `lease`
    device: str
    placement: Placement
    handle: int
    devices: tuple[torch.device, ...]  # those that the device map to the worker knows
    lease: PyRRef[Any] | None  # None: the module lives without stubs
    timeout: float | None  # seconds that a call may take; None: RPC's own default


_MOST_REMEMBERED: Final = 64  # combinations of classes
_DEFAULT_TIMEOUT: Final = -1.0  # torch's mark for what init_rpc's options say


def connect(scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route) -> None:
    """Has a scripted stub call the module that `route` leads to."""
    interface = compiled.interface
    timeout = _DEFAULT_TIMEOUT if route.timeout is None else route.timeout
    address = (interface.qualified_name, interface.declaration, route.worker, route.name or "", timeout)
    attach = compiled.contract.connect(route.placement)
    attach(scripted, address, route.handle, route.device, list(route.devices), route.lease)


def disconnect(scripted: torch.jit.ScriptModule, compiled: CompiledInterface, route: Route) -> None:
    """Takes a stub's route away, as saving does; it keeps an address, so that it can be saved."""
    interface = compiled.interface
    compiled.contract.defined["part"](
        scripted, (interface.qualified_name, interface.declaration, route.worker, route.name or "on its way", 0.0)
    )


def route_of(scripted: torch.jit.ScriptModule) -> Route | None:
    """The route that `connect` gave a scripted stub; None when it is not connected."""
    wire = _torch.scripted_attribute(scripted, WIRE)
    if type(wire).__name__ != "Connected":
        return None
    _, _, worker, name, timeout = _torch.scripted_method(scripted, ADDRESS)()
    placement = Placement(type(wire).__module__.rpartition(".")[2])
    handle, device, devices, lease = (getattr(wire, field(part)) for part in ("handle", "device", "devices", "lease"))
    return Route(
        worker, name or None, device, placement, handle, tuple(devices), lease, None if timeout < 0 else timeout
    )


def called_names(compiled: CompiledInterface) -> list[str]:
    """The scripted methods of a stub that Python calls."""
    names: list[str] = []
    for method in compiled.interface.messages:
        names.append(packed_name(method.name) if is_called_packed(method) else f"{method.name}_async")
    return names


def python_calls(compiled: CompiledInterface, method: Method) -> Iterator[Callable[..., Any]]:
    """The two methods that a stub has in Python for one of its interface: it waits, and `<m>_async` does not."""
    calls = Calls(compiled, method)
    pair = (calls.plain(), calls.plain_async())
    if is_called_packed(method):
        pair = (calls.translating(), calls.translating_async())
    for call, name in zip(pair, (method.name, f"{method.name}_async"), strict=True):
        call.__name__ = call.__qualname__ = name
        call.__signature__ = calls.signature  # type: ignore[attr-defined]
        yield call


class Calls:
    """The Python methods of a stub for one method of its interface."""

    def __init__(self, compiled: CompiledInterface, method: Method) -> None:
        self.where = f"{compiled.interface.name}.{method.name}"
        self.method = method
        self.translator = Translator(compiled.contract.classes)
        self.signature = _signature(method, self.translator)
        self._fitting = {argument.name: fitting(argument.type) for argument in method.arguments}
        self._fitting_in_order = tuple(self._fitting[a.name] for a in method.arguments if not a.keyword_only)
        self._only_classes_count = all(classes_that_fit(argument.type) is not None for argument in method.arguments)
        # By the classes of arguments that fitted: at which positions the tensors are.
        self._tensors_among: dict[tuple[type, ...], tuple[int, ...]] = {}

    # -- nothing to translate: TorchScript takes the arguments, and checks them

    def plain(self) -> Callable[..., Any]:
        # Waited for in Python: TorchScript would go on in another thread, and switching to it takes 30 us.
        return self._plain(waits=True)

    def plain_async(self) -> Callable[..., Any]:
        return self._plain(waits=False)

    def _plain(self, waits: bool) -> Callable[..., Any]:
        # What every call runs, written for that: arguments that fit are passed on as they are.
        name, fits, is_transforming = f"{self.method.name}_async", self._fits, _torch.is_transforming
        tensors_among, is_functional = self._tensors_among, _torch.is_functional

        def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
            if is_transforming():
                self.check_context()
            try:
                tensors = None if kwargs else tensors_among.get((*map(type, args),))
                if (
                    fits(args, kwargs)
                    if tensors is None
                    else not any(map(is_functional, map(args.__getitem__, tensors)))
                ):
                    future = self_.__dict__[METHODS][name](*args, **kwargs)
                else:
                    packed_args, packed_kwargs = self._packed_call(args, kwargs)
                    with _torch.as_plain_tensors():
                        future = self_.__dict__[METHODS][name](*packed_args, **packed_kwargs)
                return future.wait() if waits else settled(future, None, partial(self.failure, self_))
            except FAILURES as error:
                raise self.failure(self_, error, args, kwargs) from None  # the message has all of it

        return call

    def _fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether all arguments are what is declared, so that TorchScript need not guess: it takes None for False."""
        tests = self._fitting_in_order
        if len(args) > len(tests):
            return False
        for test, value in zip(tests, args, strict=False):
            if not test(value):
                return False
        if kwargs:
            return all(name in self._fitting and self._fitting[name](kwargs[name]) for name in kwargs)
        if self._only_classes_count and len(self._tensors_among) < _MOST_REMEMBERED:
            positions = tuple(position for position, value in enumerate(args) if type(value) in TENSORS)
            self._tensors_among[(*map(type, args),)] = positions
        return True

    def _packed_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        packed = self._pack(args, kwargs)
        count = len(self._fitting_in_order)
        names = (argument.name for argument in self.method.arguments[count:])
        return tuple(packed[:count]), dict(zip(names, packed[count:], strict=True))

    # -- values that Python packs and unpacks

    def translating(self) -> Callable[..., Any]:
        def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
            future = self._send(self_, args, kwargs)
            try:
                value = future.wait()
            except FAILURES as error:
                raise self.failure(self_, error) from None
            return self.translator.unpack(value, self.method.returns)

        return call

    def translating_async(self) -> Callable[..., Any]:
        def call(self_: Any, /, *args: Any, **kwargs: Any) -> Any:
            future = self._send(self_, args, kwargs)
            unpack = partial(self.translator.unpack, type=self.method.returns)
            return settled(future, unpack, partial(self.failure, self_))

        return call

    def _send(self, stub: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.check_context()
        packed = self._pack(args, kwargs)
        try:
            with _torch.as_plain_tensors():
                return stub.__dict__[METHODS][packed_name(self.method.name)](*packed)
        except FAILURES as error:
            raise self.failure(stub, error) from None

    def _pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        try:
            bound = self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.where}: {error}") from None
        bound.apply_defaults()
        return self.pack_arguments(bound.arguments, self.where)

    def pack_arguments(self, arguments: Mapping[str, Any], where: str) -> list[Any]:
        """All arguments as they cross, in their order. `where`: what an error calls the call."""
        return [
            self.translator.pack(arguments[argument.name], argument.type, f"{where}.{argument.name}")
            for argument in self.method.arguments
        ]

    # -- failures

    def check_context(self) -> None:
        # Its tensors would end the process: see jit/tensors.py, Note [Tensors that hurt].
        if _torch.is_transforming():
            raise ArgumentError(
                f"{self.where}: called under a torch.func transform such as vmap, whose tensors cannot cross; "
                "call it outside"
            )

    def failure(
        self, stub: Any, error: Exception, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None
    ) -> TorchRemoteError:
        """What to raise for `error`. `args`, `kwargs`: of a call that TorchScript took as they were."""
        route = route_of(stub)
        assert route is not None, "a stub has its Python face from when it is connected"
        failure = explain(error, self.where, route.worker, route.handle)
        if args is not None and isinstance(failure, ArgumentError):
            # torch names the argument at best; packing says where in it, and that an argument is None.
            try:
                self._pack(args, kwargs or {})
            except ArgumentError as precise:
                return precise
        return failure


def settled(future: Any, unpack: Callable[[Any], Any] | None, failure: Callable[[Exception], Exception]) -> Any:
    """A future of what `unpack` makes of the value of `future`, or which raises what `failure` makes of its error."""

    # Runs on a thread of RPC's, and keeps the GIL from the caller meanwhile: the shorter, the more calls a second.
    def settle(done: torch.futures.Future[Any]) -> Any:
        try:
            value = done.value()
            return value if unpack is None else unpack(value)
        except FAILURES as error:
            return _Failure(partial(failure, error))

    # An exception out of a callback would reach the waiter as text; torch's own way is to raise on unwrapping.
    settled = future.then(settle)
    _torch.check_on_unwrap(settled, _raise_failure)
    return settled


class _Failure:
    def __init__(self, error: Callable[[], Exception]) -> None:
        # Made where it is raised: it may have to ask the owner, which a callback, on a thread of RPC's, should not.
        self.error = functools.cache(error)


def _raise_failure(value: object) -> None:
    if isinstance(value, _Failure):
        raise value.error()


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
