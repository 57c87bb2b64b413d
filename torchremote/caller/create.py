"""Modules elsewhere, stubs here: the caller's side of the control plane.

Creation is one Python RPC. A stub is made from its answer, so a stub exists only once its owner can answer.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from .._torch import PyRRef
from ..errors import ArgumentError, CallTimeoutError, CreationError, MismatchError, WireError
from ..jit import CompiledInterface, compile_interface
from ..link.failures import explain
from ..link.places import Place, find_place, find_worker
from ..link.protocol import SPOKEN
from ..link.route import Route
from ..owner import modules
from ..owner.create import Created, CreateRequest, Refusal, cancel_here, connect_here, create_here, referenced
from .exchange import send, settle
from .stub import check_timeout, make_stub


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
    arguments = checked_arguments(module_cls, args, kwargs)
    request = request_for(place, compiled, checked(module_cls), *arguments, name=name)
    return _create(place, compiled, request, timeout)


def adopt(rref: PyRRef[Any], compiled: CompiledInterface, device: str) -> Pending:
    """Asks for a stub of the module that `rref` refers to, which stays where it is.

    Args:
        device: where the module is, if it has no tensors.
    """
    place = Place(rref.owner(), device)
    return _create(place, compiled, request_for(place, compiled, referenced, (rref,), {}, places=False), timeout=None)


def _create(place: Place, compiled: CompiledInterface, request: CreateRequest, timeout: float | None) -> Pending:
    answer = send_requests(compiled, place, [request])
    return Pending(answer, compiled, place, request.name, timeout, request.ticket)


def request_for(
    place: Place,
    compiled: CompiledInterface,
    make: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    places: bool = True,
    name: str | None = None,
) -> CreateRequest:
    return CreateRequest(
        compiled.interface.name,
        compiled.interface.text,
        make,
        args,
        kwargs,
        place.device or "cpu",
        places,
        name,
        ticket=secrets.token_hex(16),
        caller=rpc.get_worker_info().id,
    )


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
    modules.check_name(name)
    return find_served(find_worker(where), compiled, name, check_timeout(timeout)).wait()


def find_served(place: Place, compiled: CompiledInterface, name: str, timeout: float | None) -> Pending:
    """Does what `connect` does, without blocking."""
    answer = _ask(compiled, place, connect_here, compiled.interface.name, compiled.interface.text, name)
    return Pending(answer, compiled, place, name, timeout, ticket=None)


def send_requests(compiled: CompiledInterface, place: Place, requests: list[CreateRequest]) -> Any:
    """Asks a worker for modules, in one message; returns the Future of its answers."""
    return _ask(compiled, place, create_here, [vars(request) for request in requests])


def _ask(compiled: CompiledInterface, place: Place, function: Callable[..., Any], *args: Any) -> Any:
    def failing(error: Exception) -> CreationError:
        return CreationError(
            f"{compiled.interface.name} on {place.worker.name}: cannot be sent: {error}; "
            "what is sent must be importable by the owner"
        )

    # Pickling raises what it will.
    return send(rpc.rpc_async, (place.worker, function, (*SPOKEN, *args)), {}, failing, catches=(Exception,))


class Pending:
    """A stub that is being created."""

    def __init__(
        self,
        answer: torch.futures.Future[Any],
        compiled: CompiledInterface,
        place: Place,
        name: str | None,
        timeout: float | None,
        ticket: str | None,
        number: int = 0,
    ) -> None:
        """
        Args:
            ticket: to cancel the message; None where nothing is created, or another has it.
            number: of the answer, among those that `answer` gives.
        """
        self._compiled = compiled
        self._place = place
        self._name = name
        self._timeout = timeout
        self._ticket = ticket
        self._number = number
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
                self._stub = make_stub(self._compiled, self.route())
            return self._stub

    def route(self) -> Route:
        """Waits for the way to the module: for a stub that there is already."""
        # The owner's functions answer with a refusal; torch raises what it will.
        answers: list[Created | Refusal] = settle(self._answer, None, self._failure, catches=(Exception,))
        answer = answers[self._number]
        if isinstance(answer, Refusal):
            raise answer.error(f"{self._where}: {answer.message}")
        devices = tuple(_torch.mapped_devices(self._place.worker))
        worker = self._place.worker.name
        return Route(worker, self._name, answer.device, answer.handle, devices, answer.lease, self._timeout)

    @property
    def _where(self) -> str:
        return f"{self._compiled.interface.name} on {self._place.worker.name}"

    def _failure(self, error: Exception) -> Exception:
        self._cancel()
        failure = explain(error, self._compiled.interface.name, self._place.worker.name)
        if isinstance(failure, CallTimeoutError):
            return CallTimeoutError(
                f"{self._where}: not created within RPC's default timeout; raise rpc_timeout in init_rpc's options"
            )
        if isinstance(failure, WireError):
            return failure
        return CreationError(f"{self._where}: {error}; what is sent must be importable by the owner")

    def _cancel(self) -> None:
        # The owner may still be building, for a caller that has given up. Not awaited: it may be gone altogether.
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            with suppress(RuntimeError):  # raised where the worker is lost, and its modules with it
                rpc.rpc_async(self._place.worker, cancel_here, (ticket,))


def checked_arguments(module_cls: object, args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(args, (tuple, list)):
        raise ArgumentError(f"args={args!r}: not a tuple; one argument is written args=(value,)")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise ArgumentError(f"kwargs={kwargs!r}: not a mapping from names to values")
    if isinstance(module_cls, torch.jit.ScriptModule) and (args or kwargs):
        raise ArgumentError("module_cls: a ScriptModule is sent as it is, and takes no args or kwargs")
    return tuple(args), dict(kwargs or {})


def checked(module_cls: object) -> Callable[..., torch.nn.Module] | torch.jit.ScriptModule:
    if isinstance(module_cls, torch.jit.ScriptModule):
        return module_cls
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
