"""What a caller asks of an owner, how it crosses, and the owner's answers: creating and connecting.

An owner's function answers with a refusal rather than raise. So the caller raises our error, and not torch's account of
one.
"""

from __future__ import annotations

import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from .._torch import PyRRef
from ..errors import CreationError, InterfaceError, RemoteError, TorchRemoteError
from ..jit import Contract, Interface, compile_contract
from ..jit.read.parse import parse_interface
from ..link.places import check_device, device_of
from ..link.protocol import check_protocol
from . import modules, served
from .leases import Lease

# -- what crosses


@dataclass(frozen=True)
class CreateRequest:
    """Asks an owner for one module. It crosses as a mapping of its fields: see link/protocol.py."""

    interface: str
    text: str
    make: Callable[..., torch.nn.Module] | torch.jit.ScriptModule  # the latter as it is
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: str
    places: bool  # whether the module is put on `device`; False: it is there already, if anywhere
    name: str | None
    ticket: str  # to cancel the message that it is the first of
    caller: int  # its worker's id


@dataclass(frozen=True)
class Created:
    """Answers that a module is there: created, or found."""

    handle: int
    device: str
    lease: PyRRef[Any] | None


@dataclass(frozen=True)
class Refusal:
    """Answers that something was not done, and why. Every protocol has it."""

    error: type[TorchRemoteError]
    message: str


# -- on the owner


def create_here(protocol: int, oldest: int, asked: list[Mapping[str, Any]]) -> list[Created | Refusal]:
    """Creates all that one message asks for, one after the other. The first request's ticket is the message's.

    Args:
        protocol, oldest: what the caller speaks, and the lowest that it understands.
        asked: the fields of each `CreateRequest`.
    """
    try:
        check_protocol(protocol, oldest, "the caller")
    except TorchRemoteError as error:
        return [_refusal(error, CreationError)] * len(asked)
    requests = [CreateRequest(**fields) for fields in asked]
    answers = [_create(request) for request in requests]
    handles = [answer.handle for answer in answers if isinstance(answer, Created)]
    if _cancelled.finish(requests[0].ticket, partial(modules.remove_all, handles)):
        # Nobody waits for this answer. An RRef in it would never be confirmed, and keep RPC from shutting down.
        return [Refusal(CreationError, "the caller gave up")] * len(requests)
    return list(map(_with_lease, requests, answers))


def _create(request: CreateRequest) -> Created | Refusal:
    try:
        contract = _contract(request.interface, request.text)
        device = check_device(request.device)
        module = _build(contract.interface, request, device)
        device = device_of(module, otherwise=device)
        if request.name is None:
            handle = modules.add(contract, module, device)
        else:
            handle = served.add_named(module, device, contract, request.name)
    except Exception as error:
        return _refusal(error, CreationError)
    return Created(handle, str(device), lease=None)


def _with_lease(request: CreateRequest, answer: Created | Refusal) -> Created | Refusal:
    if isinstance(answer, Refusal) or request.name is not None:
        return answer
    modules.start_lease(answer.handle)
    return replace(answer, lease=rpc.RRef(Lease(answer.handle, request.caller)))


def answering(function: Callable[..., Any], *args: Any) -> Any:
    """Returns what `function` returns, or a refusal for what it raises."""
    try:
        return function(*args)
    except Exception as error:
        return _refusal(error, RemoteError)


def _refusal(error: Exception, otherwise: type[TorchRemoteError]) -> Refusal:
    if isinstance(error, TorchRemoteError):
        return Refusal(type(error), str(error))
    return Refusal(otherwise, f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")


def _build(interface: Interface, request: CreateRequest, device: torch.device) -> torch.jit.ScriptModule:
    try:
        scripted = isinstance(request.make, torch.jit.ScriptModule)
        module = request.make if scripted else request.make(*request.args, **request.kwargs)
        if request.places and isinstance(module, torch.nn.Module):
            module.to(device)
    except Exception as error:  # the user's code may raise anything
        what = getattr(request.make, "__qualname__", repr(request.make))
        raise CreationError(f"{what} raised {type(error).__name__}: {error}\n\n{traceback.format_exc()}") from error
    return modules.scripted_module(module, interface)


def referenced(rref: PyRRef[Any]) -> torch.nn.Module:
    """Returns the module that an RRef of this worker refers to."""
    return _torch.wrapped(rref.local_value())


def _contract(name: str, text: str) -> Contract:
    try:
        return compile_contract(parse_interface(name, text))
    except ValueError as error:
        raise InterfaceError(f"{name}: the owner cannot read the interface that it was sent: {error}") from error


def connect_here(protocol: int, oldest: int, interface: str, text: str, name: str) -> list[Created | Refusal]:
    """Finds what is served under `name`, for an interface's canonical `text`. The numbers: as for `create_here`."""
    try:
        check_protocol(protocol, oldest, "the caller")
        handle, device = served.find_served(_contract(interface, text), name)
    except Exception as error:
        return [_refusal(error, CreationError)]
    return [Created(handle, str(device), lease=None)]


class _Cancelled:
    """Remembers which messages their caller gave up, before or after they were done."""

    _REMEMBERED = 1024  # the last so many of each kind; a caller gives up about when the answer comes, or not at all

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._undo: OrderedDict[str, Callable[[], None]] = OrderedDict()
        self._tickets: deque[str] = deque(maxlen=self._REMEMBERED)

    def finish(self, ticket: str, undo: Callable[[], None]) -> bool:
        """Says whether the message was given up, and then undoes it."""
        with self._lock:
            cancelled = ticket in self._tickets
            if not cancelled:
                self._undo[ticket] = undo
                while len(self._undo) > self._REMEMBERED:
                    self._undo.popitem(last=False)
        if cancelled:
            undo()
        return cancelled

    def cancel(self, ticket: str) -> None:
        with self._lock:
            undo = self._undo.pop(ticket, None)
            if undo is None:
                self._tickets.append(ticket)
        if undo is not None:
            undo()


_cancelled = _Cancelled()


def cancel_here(ticket: str) -> None:
    """Undoes what a message with `ticket` created, now or when it is done."""
    _cancelled.cancel(ticket)
