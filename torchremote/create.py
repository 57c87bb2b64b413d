"""Modules elsewhere, stubs here: the caller's side of the control plane, and the functions that it runs on the owner.

Creation is one Python RPC. A stub is made from its answer, so a stub exists only once its owner can answer; and what
the owner refuses comes back as a value, so that the caller raises our error and not torch's account of it.
"""

from __future__ import annotations

import io
import secrets
import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed.rpc as rpc

from . import host
from .errors import (
    ArgumentError,
    CallTimeoutError,
    CreationError,
    InterfaceError,
    MismatchError,
    PlaceError,
    TorchRemoteError,
    WireError,
)
from .failures import explain
from .jit import CompiledInterface, Contract, Interface, compile_contract, compile_interface
from .jit._torch import PyRRef
from .jit.model import parse_interface
from .stub import Route, check_timeout, make_stub
from .workers import Place, check_device, device_of, find_place, placement_at


def create(
    where: str,
    interface: type,
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    timeout: float | None = None,
) -> Any:
    """Builds a module on another worker, scripts it there, and returns a scripted stub of it.

    Args:
        where: "worker", "worker/device", "rank:N" or "rank:N/device"; without a device, the module is on the CPU.
        interface: a class of annotated methods, which the module implements.
        module_cls: any callable that the owner can import and that returns an nn.Module or a ScriptModule. A
            ScriptModule itself is sent, and a copy of it hosted.
        args, kwargs: what `module_cls` is called with, on the owner.
        name: serves the module under this name, until `withdraw`. Without one it goes with its last stub.
        timeout: seconds that each call of the stub may take; 0 for no limit, None for RPC's default. Creation itself
            has RPC's default.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: no such worker or device.
        CreationError: `module_cls` raised, or what it returned cannot be scripted; nothing is left on the owner.
        MismatchError: the module does not implement `interface`; the message shows both signatures.
        ServedNameError: `name` is taken on the owner.
    """
    return create_async(where, interface, module_cls, args, kwargs, name=name, timeout=timeout).wait()


def create_async(
    where: str,
    interface: type,
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    timeout: float | None = None,
) -> Pending:
    """`create` without blocking: the same arguments, and the stub from `.wait()`.

    What can be told here is raised at once: places and interfaces that are none, things that cannot be sent. What the
    owner refuses is raised by `.wait()`.
    """
    compiled = compile_interface(interface)
    place = find_place(where)
    timeout = check_timeout(timeout)
    creation = _Creation(
        compiled.interface.name,
        compiled.interface.text,
        _Sent.of(module_cls) if isinstance(module_cls, torch.jit.ScriptModule) else _checked(module_cls),
        *_checked_arguments(args, kwargs),
        place.device or "cpu",
        name,
        ticket=secrets.token_hex(16),
    )
    answer = _send(compiled, place, _create_here, creation)
    return Pending(answer, compiled, place, timeout, creation.ticket)


def connect(where: str, interface: type, name: str, *, timeout: float | None = None) -> Any:
    """A stub of the module that a worker serves under `name`.

    Args:
        where: "worker" or "rank:N". A served module stays on the device that it is on, so none is named.
        interface: a class of annotated methods, which the module implements. It may declare fewer than the module
            is served with, and other defaults.
        timeout: as for `create`.

    Raises:
        ServedNameError: the worker serves nothing under `name`.
        MismatchError: the module does not implement `interface`.
    """
    compiled = compile_interface(interface)
    host.check_name(name)
    place = find_place(where)
    if place.device is not None:
        raise PlaceError(f"where={where!r}: a served module stays where it is; write {where.partition('/')[0]!r}")
    timeout = check_timeout(timeout)
    answer = _send(compiled, place, _connect_here, compiled.interface.name, compiled.interface.text, name)
    return Pending(answer, compiled, place, timeout, ticket=None).wait()


def _send(compiled: CompiledInterface, place: Place, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return rpc.rpc_async(place.worker, function, args)
    except Exception as error:  # pickling raises what it will
        raise CreationError(
            f"{compiled.interface.name} on {place.worker.name}: cannot be sent: {error}; "
            "what is sent must be importable by the owner"
        ) from error


class Pending:
    """A stub that is being created."""

    def __init__(
        self,
        answer: torch.futures.Future[Any],
        compiled: CompiledInterface,
        place: Place,
        timeout: float | None,
        ticket: str | None,
    ) -> None:
        self._compiled = compiled
        self._place = place
        self._timeout = timeout
        self._ticket = ticket
        self._answer = answer
        self._stub: Any = None
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Whether `wait` returns, or raises, at once."""
        return bool(self._answer.done())

    def wait(self) -> Any:
        """The stub; the same one however often it is asked for."""
        with self._lock:
            if self._stub is None:
                self._stub = self._receive()
            return self._stub

    def _receive(self) -> Any:
        where = f"{self._compiled.interface.name} on {self._place.worker.name}"
        try:
            answer: _Grant | _Refusal = self._answer.wait()
        except Exception as error:  # torch raises what it will; the owner's functions answer with a refusal
            self._abandon()
            failure = explain(error, self._compiled.interface.name, self._place.worker.name)
            if isinstance(failure, CallTimeoutError):
                raise CallTimeoutError(
                    f"{where}: not created within RPC's default timeout; raise rpc_timeout in init_rpc's options"
                ) from error
            if isinstance(failure, WireError):
                raise failure from error
            raise CreationError(f"{where}: {error}; what is sent must be importable by the owner") from error
        if isinstance(answer, _Refusal):
            raise answer.error(f"{where}: {answer.message}")
        placement = placement_at(self._place.worker, answer.device)
        worker = self._place.worker.name
        return make_stub(
            self._compiled, Route(worker, answer.device, placement, answer.handle, answer.lease, self._timeout)
        )

    def _abandon(self) -> None:
        # The owner may still be building, for a caller that has given up. Not awaited: it may be gone altogether.
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            with suppress(RuntimeError):  # raised where the worker is lost, and its modules with it
                rpc.rpc_async(self._place.worker, _abandon_here, (ticket,))


def _checked_arguments(args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(args, (tuple, list)):
        raise ArgumentError(f"args={args!r}: not a tuple; one argument is written args=(value,)")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise ArgumentError(f"kwargs={kwargs!r}: not a mapping from names to values")
    return tuple(args), dict(kwargs or {})


def _checked(module_cls: object) -> Callable[..., torch.nn.Module]:
    if isinstance(module_cls, torch.nn.Module):
        raise MismatchError(
            f"module_cls: an instance of {type(module_cls).__name__}; "
            "pass the class and its args, or torch.jit.script(module)"
        )
    if not callable(module_cls):
        raise MismatchError(
            f"module_cls: {module_cls!r} cannot be called; pass a class or function that returns an nn.Module"
        )
    return module_cls


# -- what crosses


@dataclass(frozen=True)
class _Sent:
    """A ScriptModule as bytes: RPC's pickler takes one only as a whole argument."""

    content: bytes

    @staticmethod
    def of(module: torch.jit.ScriptModule) -> _Sent:
        buffer = io.BytesIO()
        torch.jit.save(module, buffer)
        return _Sent(buffer.getvalue())

    def __call__(self) -> torch.jit.ScriptModule:
        module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(self.content))
        return module


@dataclass(frozen=True)
class _Creation:
    interface: str
    text: str
    make: Callable[..., torch.nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: str
    name: str | None
    ticket: str


@dataclass(frozen=True)
class _Grant:
    handle: int
    device: str
    lease: PyRRef[Any] | None


@dataclass(frozen=True)
class _Refusal:
    error: type[TorchRemoteError]
    message: str


# -- on the owner


def _create_here(creation: _Creation) -> _Grant | _Refusal:
    try:
        contract = _contract(creation.interface, creation.text)
        device = check_device(creation.device)
        module = _build(contract.interface, creation, device)
        if creation.name is None:
            handle = host.host(contract, module)
            undo = partial(host.release, handle)
        else:
            handle = host.offer(module, contract, creation.name)
            undo = partial(host.withdraw_if_served, creation.name, handle)
    except Exception as error:
        return _refusal(error)
    if _creations.finish(creation.ticket, undo):
        # Nobody waits for this answer. An RRef in it would never be confirmed, and keep RPC from shutting down.
        return _Refusal(CreationError, "the caller gave up")
    lease = rpc.RRef(host.Lease(handle)) if creation.name is None else None
    return _Grant(handle, str(device_of(module)), lease)


def _refusal(error: Exception) -> _Refusal:
    if isinstance(error, TorchRemoteError):
        return _Refusal(type(error), str(error))
    return _Refusal(CreationError, f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")


def _build(interface: Interface, creation: _Creation, device: torch.device) -> torch.jit.ScriptModule:
    try:
        module = creation.make(*creation.args, **creation.kwargs)
        if isinstance(module, torch.nn.Module):
            module = module.to(device)
    except Exception as error:  # the user's code may raise anything
        what = getattr(creation.make, "__qualname__", repr(creation.make))
        raise CreationError(f"{what} raised {type(error).__name__}: {error}\n\n{traceback.format_exc()}") from error
    return host.scripted_module(module, interface)


def _contract(name: str, text: str) -> Contract:
    try:
        return compile_contract(parse_interface(name, text))
    except ValueError as error:
        raise InterfaceError(f"{name}: the owner cannot read the interface that it was sent: {error}") from error


def _connect_here(interface: str, text: str, name: str) -> _Grant | _Refusal:
    try:
        handle, module = host.find_served(_contract(interface, text), name)
    except Exception as error:
        return _refusal(error)
    return _Grant(handle, str(device_of(module)), lease=None)


class _Creations:
    """Which creations were given up by their caller, before or after they were done."""

    _REMEMBERED = 1024  # the last so many of each kind; a caller gives up about when the answer comes, or not at all

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._undo: OrderedDict[str, Callable[[], None]] = OrderedDict()
        self._abandoned: deque[str] = deque(maxlen=self._REMEMBERED)

    def finish(self, ticket: str, undo: Callable[[], None]) -> bool:
        """Whether the creation was abandoned, and so is undone."""
        with self._lock:
            abandoned = ticket in self._abandoned
            if not abandoned:
                self._undo[ticket] = undo
                while len(self._undo) > self._REMEMBERED:
                    self._undo.popitem(last=False)
        if abandoned:
            undo()
        return abandoned

    def abandon(self, ticket: str) -> None:
        with self._lock:
            undo = self._undo.pop(ticket, None)
            if undo is None:
                self._abandoned.append(ticket)
        if undo is not None:
            undo()


_creations = _Creations()


def _abandon_here(ticket: str) -> None:
    _creations.abandon(ticket)
