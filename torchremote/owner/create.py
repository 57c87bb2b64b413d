"""Creates modules for callers, and finds served ones: the owner's side of the control plane, and its messages.

A function of the owner answers with a refusal and does not raise. So the caller can raise our own error, where torch
would give it a RemoteException as text.

Note [What is no Exception]
    A user's code may raise SystemExit, as `sys.exit` and argparse do, or KeyboardInterrupt or GeneratorExit. On a
    thread of RPC they end nothing: torch sends the caller their text, and nobody would undo what was done so far. So
    they are caught there like all others. Ctrl-C itself goes to the main thread, where it is raised as it is: `serve`
    scripts there, and a caller builds there for an owner that cannot import the class.
"""

from __future__ import annotations

import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import torch

from .. import _torch
from .._torch import PyRRef
from .._version import __version__
from ..errors import CreationError, InterfaceError, ProtocolError, RemoteError, ServedNameError, TorchRemoteError
from ..jit import Contract, compile_contract
from ..jit.read.parse import parse_interface
from ..jit.read.shown import repr_of
from ..link.failures import missing_operator
from ..link.places import check_device
from ..link.protocol import check_protocol
from ..link.stubs import is_stub
from ..link.words import is_ctrl_c, words_of
from ..locks import new_lock
from . import modules, served
from .compiled import check_place
from .exported import export_for
from .lives import leases
from .modes import is_training
from .running.gathering import Gather
from .running.hosting import Ways
from .running.turns import prepare_turns
from .scripting import scripted_module
from .state_names import StateNames, remember_names

# -- the messages


@dataclass(frozen=True)
class CreateRequest:
    """Asks an owner for one module. It is sent as a mapping of its fields: see link/protocol.py."""

    interface: str
    text: str
    make: Callable[..., torch.nn.Module] | torch.jit.ScriptModule  # a ScriptModule is hosted as it is
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: str
    places: bool  # True moves the module to `device`; False leaves it where it is
    name: str | None
    in_turn: bool | None  # whether calls run one after another; None: the owner finds out
    if_exists: str  # what happens if the name is taken: "raise", "connect" or "replace"
    strict: bool  # False: hosts a module whose calls should run in turn also where they cannot, and warns
    ticket: str  # the first request's ticket cancels the whole message
    caller: int  # the id of the caller's worker
    examples: Mapping[str, Any] | None = None  # of each method's arguments: the module is exported, not scripted
    gather: int | None = None  # how many calls at most become one
    declared: str | None = None  # `text` with the marks of its methods, by which calls are gathered. None: they are not
    names: StateNames | None = None  # of the state of a ScriptModule in `make`; None: read when it is scripted, or lost
    checkpoint: str | None = None  # a path on the owner: the module begins with the state that is there, if any


@dataclass(frozen=True)
class Created:
    """Answers that a module was created or found."""

    handle: int
    device: str
    in_turn: bool  # whether calls run one after another
    training: bool  # the module's mode
    ticket: str | None = None  # with which the caller takes its lease; None: the module lives without stubs
    warning: str = ""
    is_new: bool = True  # False: the handle is that of a module that was there before, and stays if the caller gives up


@dataclass(frozen=True)
class Refusal:
    """Answers that something was not done, and why. All protocols share this class."""

    error: type[TorchRemoteError]
    message: str


# -- on the owner


def create_here(protocol: int, oldest: int, asked: list[Mapping[str, Any]]) -> list[Created | Refusal]:
    """Creates the modules of one message, one after the other. The first request's ticket cancels the message.

    Args:
        protocol, oldest: the caller's protocol, and the oldest that it understands.
        asked: the fields of each `CreateRequest`.
    """
    try:
        check_protocol(protocol, oldest, "the caller", "the owner")
        _check_fields(asked)
    except TorchRemoteError as error:
        return [_refusal(error, CreationError)] * len(asked)
    requests = [CreateRequest(**given) for given in asked]
    answers = [_with_ticket(request, _create(request)) for request in requests]
    handles = [answer.handle for answer in answers if isinstance(answer, Created) and answer.is_new]
    if _remove_if_cancelled(requests[0].ticket, handles):
        return [Refusal(CreationError, "the caller gave up")] * len(requests)
    return answers


def _check_fields(asked: list[Mapping[str, Any]]) -> None:
    """Raises ProtocolError if a request has a field of a later release: see link/protocol.py, Note [Protocols]."""
    if later := sorted({name for given in asked for name in given} - {field.name for field in fields(CreateRequest)}):
        raise ProtocolError(
            f"the owner runs torchremote {__version__}, which does not know {', '.join(later)} in a request to create; "
            "run the same release of torchremote on both, or do not ask for that"
        )


def _create(request: CreateRequest) -> Created | Refusal:
    """Creates one module. The answer has no ticket yet."""
    try:
        contract = _contract(request.interface, request.text)
        device = check_device(request.device)
        if request.name is not None:
            served.check_served_name(request.name)
        if request.name is not None and request.if_exists == "connect":
            with suppress(ServedNameError):
                return _find(contract, request.name)
        module = build_module(contract, request, device)
        in_turn, warning = _turns(request, module)
        ways = Ways(in_turn, _gather(request))
        try:
            ready = served.made_ready(
                module,
                contract,
                ways,
                device,
                path=request.checkpoint,
                name=request.name,
                if_exists=request.if_exists,
                owner=_torch.own_name(),
            )
            handle, is_new = served.host(ready)
        except ServedNameError:
            if request.name is None or request.if_exists != "connect":
                raise
            return _find(contract, request.name)  # another caller was faster
        return Created(handle, str(ready.device), in_turn, is_training(module), warning=warning, is_new=is_new)
    except BaseException as error:  # see Note [What is no Exception]
        return _refusal(error, CreationError)


def _gather(request: CreateRequest) -> Gather | None:
    """Returns how calls are gathered, if they are."""
    if request.gather is None or request.declared is None:
        return None
    return Gather(request.gather, parse_interface(request.interface, request.declared))


def _find(contract: Contract, name: str) -> Created:
    """Finds a served module."""
    handle, entry = served.find_served(contract, name)
    hosting = entry.hosting
    return Created(handle, str(hosting.device), hosting.ways.in_turn, is_training(hosting.module), is_new=False)


def _turns(request: CreateRequest, module: torch.jit.ScriptModule) -> tuple[bool, str]:
    """Prepares for calls in turn. Says whether those of the module run so, and what the caller has to be warned of."""
    try:
        return prepare_turns(module, request.in_turn, request.gather), ""
    except CreationError as error:
        if request.strict:
            raise
        return False, str(error)


def _with_ticket(request: CreateRequest, answer: Created | Refusal) -> Created | Refusal:
    """Adds a ticket to the answer for a module without a name, and holds the module for the caller."""
    if isinstance(answer, Refusal) or request.name is not None:
        return answer
    leases.start(answer.handle, modules.remove, request.caller, request.ticket)
    return replace(answer, ticket=request.ticket)


def answering(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function`. Returns its result, or a refusal if it raises."""
    try:
        return function(*args)
    except BaseException as error:  # see Note [What is no Exception]
        return _refusal(error, RemoteError)


def _refusal(error: BaseException, otherwise: type[TorchRemoteError]) -> Refusal:
    """Makes a refusal of an exception. `otherwise`: the class of error for one that is not ours."""
    if isinstance(error, TorchRemoteError):
        return Refusal(type(error), str(error))
    return Refusal(otherwise, f"{words_of(error)}\n\n{traceback.format_exc()}")


def build_module(contract: Contract, request: CreateRequest, device: torch.device) -> torch.jit.ScriptModule:
    """Calls the user's class or function, moves the module to its device, and scripts or exports it.

    A caller does the same for an owner that cannot import the class.

    Raises:
        CreationError: the user's code, or the compiler, raised something.
        MismatchError: what the user's code returned does not implement the interface.
    """
    try:
        scripted = isinstance(request.make, torch.jit.ScriptModule)
        module = request.make if scripted else request.make(*request.args, **request.kwargs)
        if request.places and isinstance(module, torch.nn.Module) and not is_stub(module):
            module.to(device)
    except BaseException as error:  # the user's code may raise anything
        if is_ctrl_c(error):
            raise  # of a caller that builds
        what = getattr(request.make, "__qualname__", repr_of(request.make))
        said = words_of(error)
        missing = missing_operator(said)
        said += missing and f"; {missing}"
        raise CreationError(f"{what} raised {said}\n\n{traceback.format_exc()}") from error
    if request.places and isinstance(module, torch.nn.Module):
        check_place(module, device)
    if request.examples is not None:
        return export_for(module, contract, request.examples, device=device)
    made = scripted_module(module, contract.interface)
    if request.names is not None:
        remember_names(made, request.names)
    return made


def referenced(rref: PyRRef[Any]) -> torch.nn.Module:
    """Returns the module that an RRef of this worker refers to."""
    return _torch.as_python_module(rref.local_value())


def _contract(name: str, text: str) -> Contract:
    """Compiles an interface from its canonical text."""
    try:
        return compile_contract(parse_interface(name, text))
    except ValueError as error:
        raise InterfaceError(
            f"{name}: the owner cannot read the interface that it was sent: {error}; run the same release of "
            "torchremote on both"
        ) from error


def connect_here(protocol: int, oldest: int, interface: str, text: str, name: str) -> list[Created | Refusal]:
    """Finds the module that is served under `name`, for stubs of the interface with the canonical text `text`.

    Args:
        protocol, oldest: as for `create_here`.
        interface: the interface's name.
    """
    try:
        check_protocol(protocol, oldest, "the caller", "the owner")
        return [_find(_contract(interface, text), name)]
    except BaseException as error:  # see Note [What is no Exception]
        return [_refusal(error, CreationError)]


# -- messages that were cancelled

_REMEMBERED: Final = 1024  # entries of each kind; a caller cancels at about the time of the answer, or never

_lock = new_lock()
_made: OrderedDict[str, list[int]] = OrderedDict()  # handles, by the ticket of a message that is done
_cancelled: deque[str] = deque(maxlen=_REMEMBERED)  # tickets of messages that were cancelled before they were done


def _remove_if_cancelled(ticket: str, handles: list[int]) -> bool:
    """Removes the modules of a message if it was cancelled, and says so. If not, keeps them for `cancel_here`."""
    with _lock:
        cancelled = ticket in _cancelled
        if not cancelled:
            _made[ticket] = handles
            while len(_made) > _REMEMBERED:
                _made.popitem(last=False)
    if cancelled:
        modules.remove_all(handles)
    return cancelled


def cancel_here(ticket: str) -> None:
    """Removes the modules that the message with `ticket` created, now or when it is done."""
    with _lock:
        handles = _made.pop(ticket, None)
        if handles is None:
            _cancelled.append(ticket)
    modules.remove_all(handles or [])
