"""Creates many modules at once, with one message for each worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Unpack, overload

import torch
import torch.distributed.rpc as rpc

from ... import _torch
from ..._torch import WorkerInfo
from ...errors import ArgumentError, TorchRemoteError
from ...jit import CompiledInterface, compile_interface
from ...jit.read.shown import repr_of
from ...link.places import find_place
from ...link.timeouts import check_timeout
from ...owner import modules
from ...owner.checkpoints import check_path
from ...owner.create import CreateRequest
from ...owner.exported import complete_examples
from ...owner.running.gathering import check_gather
from ...typing import HasStub, StubT
from ..messages.waiting import SuppressFailures, unless_of_a_handler, wait
from ..stubs.stub import route_and_interface
from .built_here import is_only_here
from .pending_stub import PendingStub, cancel, send_request
from .requests import CommonOptions, IfExists, checked, checked_arguments, request_for
from .sending import cancel_message, send_requests


class CreateManyOptions(CommonOptions, total=False):
    """The keywords of `create_many`, for its overloads."""

    names: Sequence[str] | None
    checkpoints: Sequence[str | os.PathLike[str]] | None


@overload
def create_many(
    where: Sequence[str],
    interface: HasStub[StubT],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Sequence[Any]] | None = None,
    kwargs: Sequence[Mapping[str, Any]] | None = None,
    *,
    return_exceptions: Literal[False] = False,
    **options: Unpack[CreateManyOptions],
) -> list[StubT]: ...
@overload
def create_many(
    where: Sequence[str],
    interface: HasStub[StubT],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Sequence[Any]] | None = None,
    kwargs: Sequence[Mapping[str, Any]] | None = None,
    *,
    return_exceptions: bool,
    **options: Unpack[CreateManyOptions],
) -> list[StubT | TorchRemoteError]: ...
@overload
def create_many(
    where: Sequence[str],
    interface: type,
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Sequence[Any]] | None = None,
    kwargs: Sequence[Mapping[str, Any]] | None = None,
    *,
    return_exceptions: bool = False,
    **options: Unpack[CreateManyOptions],
) -> list[Any]: ...
def create_many(
    where: Sequence[str],
    interface: type | HasStub[Any],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Sequence[Any]] | None = None,
    kwargs: Sequence[Mapping[str, Any]] | None = None,
    *,
    names: Sequence[str] | None = None,
    if_exists: IfExists = "raise",
    timeout: float | None = None,
    in_turn: bool | None = None,
    return_exceptions: bool = False,
    examples: Mapping[str, Any] | None = None,
    gather: int | None = None,
    checkpoints: Sequence[str | os.PathLike[str]] | None = None,
) -> list[Any]:
    """Creates many modules at once. Each worker gets one message, however many modules it is to build.

    A worker builds its modules one after the other. Different workers build at the same time. RPC's default timeout
    holds for all modules of one worker together.

    Args:
        where: a place for each module, as for `create`.
        interface, module_cls: as for `create`; the same for all modules.
        args, kwargs, names, checkpoints: a list each, with the `args`, `kwargs`, `name` and `checkpoint` of `create`
            for every module.
        if_exists: as for `create`; the same for all modules.
        timeout: seconds that each call of a stub may take; 0 for no limit, None for RPC's default.
        in_turn: as for `create`; the same for all modules.
        return_exceptions: True puts an error in the place of each stub that could not be made. False raises the first
            error and leaves no new module on any owner. One whose name was taken before stays, or what replaced it.
        examples, gather: as for `create`; the same for all modules.

    Returns:
        The stubs, in the order of the places.

    Raises:
        TorchRemoteError: as `create` raises it. The message says which module it was.
        ArgumentError: a list is no list, or not as long as `where`; or calls cannot be gathered as `gather` says. Or
            `if_exists` is none of the three, or needs `names`.
        ValueError: `timeout` is no number of seconds.

    Two layers on a worker "owner":

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> layers = create_many(["owner", "owner"], Layer, torch.nn.Linear, args=[(4, 2), (4, 8)])
    >>> [layer(torch.ones(3, 4)).shape for layer in layers]
    [torch.Size([3, 2]), torch.Size([3, 8])]
    """
    make = checked(module_cls)  # first: if it and the interface are swapped, that is what is wrong with the interface
    compiled = compile_interface(interface)
    timeout = check_timeout(timeout)
    _check_lists(where=where, args=args, kwargs=kwargs, names=names, checkpoints=checkpoints)
    check_gather(gather, compiled.interface)
    complete = None if examples is None else complete_examples(examples, compiled.interface, compiled.contract)

    def asked_for(position: int) -> tuple[WorkerInfo, CreateRequest]:
        place = find_place(where[position])
        given: object = args[position] if args else ()
        if not isinstance(given, (tuple, list)):
            others = ", ..." if len(where) > 1 else ""
            said = repr_of(given)
            raise ArgumentError(f"args={said}: not a tuple; give one tuple for each module: args=[({said},){others}]")
        arguments = checked_arguments(make, given, kwargs[position] if kwargs else None)
        name = names[position] if names else None
        request = request_for(
            place.device,
            compiled,
            make,
            *arguments,
            name=name,
            if_exists=if_exists,
            in_turn=in_turn,
            examples=complete,
            gather=gather,
            checkpoint=check_path(checkpoints[position]) if checkpoints else None,
        )
        return place.worker, request

    asked = [_outcome(position, asked_for, position) for position in range(len(where))]
    if not return_exceptions:
        _raise_first(asked)
    sent, made = _make_all(compiled, asked, timeout)
    if not return_exceptions:
        try:
            _raise_first(made)
        except TorchRemoteError:
            for answer in _send_removals(sent, made):
                with SuppressFailures(RuntimeError):  # the worker is lost, and its modules with it
                    wait(answer)
            raise
    return made


def _check_lists(where: Sequence[str], **others: Any) -> None:
    """Raises ArgumentError if one of the lists is none, or is not as long as `where`."""
    for what, given in {"where": where, **others}.items():
        if given is None:
            continue
        if not isinstance(given, (list, tuple)):
            raise ArgumentError(f"{what}: {type(given).__name__} is no list; give one for each module")
        if len(given) != len(where):
            raise ArgumentError(f"{what}: {len(given)} of them for {len(where)} modules; give one for each place")


def _make_all(compiled: CompiledInterface, asked: list[Any], timeout: float | None) -> tuple[list[Any], list[Any]]:
    """Sends what is asked for, and waits. Ctrl-C leaves no module.

    Returns:
        For each what was sent, as from `_send_all`, and a stub or an error.
    """
    messages: list[tuple[WorkerInfo, str]] = []
    sent: list[Any] = []
    made: list[Any] = []
    try:
        sent = _send_all(compiled, asked, timeout, messages)
        for position, one in enumerate(sent):
            made.append(one if isinstance(one, TorchRemoteError) else _outcome(position, PendingStub.wait, one))
    except BaseException:  # Ctrl-C; no list is returned, so nothing may stay
        for worker, ticket in messages:
            cancel_message(worker, ticket)
        for one in sent:  # `wait` may have sent another message, with a module that was built here
            if isinstance(one, PendingStub):
                cancel(one)
        _send_removals(sent, made)
        raise
    return sent, made


def _outcome(position: int, function: Callable[[Any], Any], argument: Any) -> Any:
    """Returns the result of `function`, or the TorchRemoteError that it raised, with the module's position in front."""
    try:
        return function(argument)
    except unless_of_a_handler(TorchRemoteError) as error:
        return _of_module(position, error)


def _of_module(position: int, error: TorchRemoteError) -> TorchRemoteError:
    """Makes an error that begins with the module's position."""
    return type(error)(f"module {position}: {error}")


def _raise_first(outcomes: list[Any]) -> None:
    """Raises the first error among the outcomes, if there is one."""
    for outcome in outcomes:
        if isinstance(outcome, TorchRemoteError):
            raise outcome


def _send_all(
    compiled: CompiledInterface, asked: list[Any], timeout: float | None, messages: list[tuple[WorkerInfo, str]]
) -> list[Any]:
    """Sends one message to each worker. Returns for each module a PendingStub, or the error that prevented it.

    Args:
        messages: gets the worker and the ticket of each message, before that is sent.
    """

    def alone(one: Any) -> PendingStub:
        worker, request = one
        messages.append((worker, request.ticket))
        return send_request(compiled, worker, request, timeout)

    of_workers: dict[int, list[int]] = {}
    for position, one in enumerate(asked):
        if not isinstance(one, TorchRemoteError):
            worker, _ = one
            of_workers.setdefault(worker.id, []).append(position)
    sent = list(asked)
    for positions in of_workers.values():
        worker, first = asked[positions[0]]
        answer = None
        try:
            only_here = is_only_here(worker, first)
        except unless_of_a_handler(TorchRemoteError) as error:  # the worker does not answer
            for position in positions:
                sent[position] = _of_module(position, error)
            continue
        if not only_here:
            messages.append((worker, first.ticket))  # the first one's is the message's
            with SuppressFailures(TorchRemoteError):
                answer = send_requests(compiled, worker, [asked[position][1] for position in positions])
        if answer is None:  # each by itself, so that each has its own error, or is built here
            for position in positions:
                sent[position] = _outcome(position, alone, asked[position])
            continue
        for in_message, position in enumerate(positions):
            _, request = asked[position]
            ticket = first.ticket if in_message == 0 else None
            sent[position] = PendingStub(answer, compiled, worker, request.name, timeout, ticket, in_message, request)
    return sent


def _send_removals(sent: list[Any], made: list[Any]) -> list[Any]:
    """Asks the owners to remove the new modules of those that are stubs: with a name, they would stay.

    Returns the Futures of the answers.
    """
    handles: dict[str, list[int]] = {}
    for pending, stub in zip(sent, made, strict=False):
        if not isinstance(stub, TorchRemoteError) and pending.is_new:
            route, _ = route_and_interface(stub, "create_many")
            handles.setdefault(route.worker, []).append(route.handle)
    answers = []
    for worker, of_worker in handles.items():
        with suppress(RuntimeError), _torch.without_inference():  # it raises if the worker, and its modules, are lost
            answers.append(rpc.rpc_async(worker, modules.remove_all, (of_worker,)))
    return answers
