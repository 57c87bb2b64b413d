"""What a caller asks of an owner, how it crosses, and the owner's answers: creating and connecting.

An owner's function answers with a refusal rather than raise: so the caller raises our error, and not torch's account
of one.
"""

from __future__ import annotations

import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
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
from . import modules
from .leases import Lease

# -- what crosses


@dataclass(frozen=True)
class Creation:
    interface: str
    text: str
    make: Callable[..., torch.nn.Module] | torch.jit.ScriptModule  # the latter as it is
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: str
    moves: bool  # False: the module is on `device` already, if on any
    name: str | None
    ticket: str  # to give the message up that it is the first of
    caller: int  # its worker's id


@dataclass(frozen=True)
class Grant:
    handle: int
    device: str
    lease: PyRRef[Any] | None


@dataclass(frozen=True)
class Refusal:
    error: type[TorchRemoteError]
    message: str


# -- on the owner


def create_here(creations: list[Creation]) -> list[Grant | Refusal]:
    """Creates all that one message asks for, one after the other. The first one's ticket is the message's."""
    answers = [_create(creation) for creation in creations]
    grants = [answer for answer in answers if isinstance(answer, Grant)]
    if _creations.finish(creations[0].ticket, partial(modules.release_all, [grant.handle for grant in grants])):
        # Nobody waits for this answer. An RRef in it would never be confirmed, and keep RPC from shutting down.
        return [Refusal(CreationError, "the caller gave up")] * len(creations)
    return list(map(_lease, creations, answers))


def _create(creation: Creation) -> Grant | Refusal:
    try:
        contract = _contract(creation.interface, creation.text)
        device = check_device(creation.device)
        module = _build(contract.interface, creation, device)
        name, device = creation.name, device_of(module, otherwise=device)
        handle = (
            modules.host(contract, module, device) if name is None else modules.offer(module, device, contract, name)
        )
    except Exception as error:
        return _refusal(error, CreationError)
    return Grant(handle, str(device), lease=None)


def _lease(creation: Creation, answer: Grant | Refusal) -> Grant | Refusal:
    if isinstance(answer, Refusal) or creation.name is not None:
        return answer
    modules.lend(answer.handle)
    return replace(answer, lease=rpc.RRef(Lease(answer.handle, creation.caller)))


def answering(function: Callable[..., Any], *args: Any) -> Any:
    """What `function` returns, or a refusal for what it raises."""
    try:
        return function(*args)
    except Exception as error:
        return _refusal(error, RemoteError)


def _refusal(error: Exception, otherwise: type[TorchRemoteError]) -> Refusal:
    if isinstance(error, TorchRemoteError):
        return Refusal(type(error), str(error))
    return Refusal(otherwise, f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")


def _build(interface: Interface, creation: Creation, device: torch.device) -> torch.jit.ScriptModule:
    try:
        scripted = isinstance(creation.make, torch.jit.ScriptModule)
        module = creation.make if scripted else creation.make(*creation.args, **creation.kwargs)
        if creation.moves and isinstance(module, torch.nn.Module):
            module.to(device)
    except Exception as error:  # the user's code may raise anything
        what = getattr(creation.make, "__qualname__", repr(creation.make))
        raise CreationError(f"{what} raised {type(error).__name__}: {error}\n\n{traceback.format_exc()}") from error
    return modules.scripted_module(module, interface)


def referenced(rref: PyRRef[Any]) -> torch.nn.Module:
    """The module that an RRef of this worker refers to."""
    return _torch.wrapped(rref.local_value())


def _contract(name: str, text: str) -> Contract:
    try:
        return compile_contract(parse_interface(name, text))
    except ValueError as error:
        raise InterfaceError(f"{name}: the owner cannot read the interface that it was sent: {error}") from error


def connect_here(interface: str, text: str, name: str) -> list[Grant | Refusal]:
    try:
        handle, device = modules.find_served(_contract(interface, text), name)
    except Exception as error:
        return [_refusal(error, CreationError)]
    return [Grant(handle, str(device), lease=None)]


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


def abandon_here(ticket: str) -> None:
    _creations.abandon(ticket)
