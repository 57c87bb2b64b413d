"""Creates modules on other workers.

Creation is one RPC in Python. The stub is made from the answer, so a stub exists only once its owner can answer calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack, overload

import torch

from ..._torch import PyRRef, WorkerInfo
from ...jit import CompiledInterface, compile_interface
from ...link.places import find_place
from ...link.timeouts import check_timeout
from ...owner.checkpoints import check_path
from ...owner.create import CreateRequest, referenced
from ...owner.exported import complete_examples
from ...owner.running.gathering import check_gather
from ...typing import HasStub, StubT
from .pending import Pending
from .pending_stub import PendingStub, send_request
from .requests import CommonOptions, IfExists, checked, checked_arguments, request_for
from .sending import cancelled_if_interrupted


class CreateOptions(CommonOptions, total=False):
    """The keywords of `create` and `create_async`, for their overloads."""

    name: str | None
    checkpoint: str | os.PathLike[str] | None


@overload
def create(
    where: str,
    interface: HasStub[StubT],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Unpack[CreateOptions],
) -> StubT: ...
@overload
def create(
    where: str,
    interface: type,
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Unpack[CreateOptions],
) -> Any: ...
def create(
    where: str,
    interface: type | HasStub[Any],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    if_exists: IfExists = "raise",
    timeout: float | None = None,
    in_turn: bool | None = None,
    examples: Mapping[str, Any] | None = None,
    gather: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Any:
    """Builds a module on another worker, scripts it there, and returns a scripted stub of it.

    Args:
        where: "worker", "worker/device", "rank:N" or "rank:N/device". Without a device, the module is on the CPU.
        interface: a class of annotated methods. The module implements it.
        module_cls: a callable that returns an nn.Module or a ScriptModule. The owner imports and calls it. If the owner
            cannot import it, the module is built and scripted or exported here, and sent. Or a ScriptModule: it is
            sent, and the owner hosts a copy.
        args, kwargs: the arguments with which `module_cls` is called.
        name: serves the module under this name until `withdraw`. An unnamed module goes with its last stub.
        if_exists: what happens if the owner serves a module under `name` already. "raise": an error. "connect": a stub
            of that module is returned, and no other is made. "replace": the new module takes its place; stubs of the
            old one stay connected, and call the new one. It gets the mode that a caller set in the old one last.
        timeout: seconds that each call of the stub may take; 0 for no limit, None for RPC's default. Creation itself
            has RPC's default.
        in_turn: None: the owner finds out whether a method changes the module, as in `self.hidden = new`. If so, calls
            run one after another, those of one stub in the order in which it sent them. True: they do in any case.
            False: they run at once; you vouch that this is safe.
        examples: for each method, a tuple of arguments, or a mapping by their names, or a list of those. The owner
            exports the module with torch.export, and does not script it: see `exported`. For modules that TorchScript
            refuses.
        gather: how many calls of a method declared `batched` the owner may make into one. It gathers those that arrive
            while earlier ones run. Their tensors are concatenated, and the results are views of one tensor. All calls
            of the module then run one after another; those of one stub keep their order only if `in_turn` is True, or
            the owner finds that a method changes the module. Calls in which gradients may flow are not gathered.
        checkpoint: a path on the owner. The module begins with the state that is there, if the file exists, and
            `at_owner(stub).checkpoint()` writes there. An owner that crashed goes on from it when the module is
            created again.

    Returns:
        The stub. It has the methods of `interface`, and for each `<m>` also `<m>_async`, `<m>_many`, `<m>_many_async`
        and `<m>_remote`.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: there is no such worker or device.
        InterfaceError: `interface` has a signature that cannot cross.
        ArgumentError: `args` is no tuple or list, `kwargs` no mapping from names, or an example does not fit; or calls
            cannot be gathered as `gather` says. Or `if_exists` or `in_turn` is none of the three, or `if_exists` needs
            `name`; or `checkpoint` is no path.
        CreationError: `module_cls` raised, or returned something that cannot be scripted or exported. Or calls have to
            run in turn and the owner cannot do that: see `rpc_options`. Or `checkpoint` cannot be read. Nothing is left
            on the owner.
        MismatchError: the module does not implement `interface`. The message shows both signatures. Or the state in
            `checkpoint` does not fit the module.
        NotSavableError: with `checkpoint`, as from `AtOwner.checkpoint`.
        ServedNameError: `name` is taken on the owner, or is no string, or empty.
        CapacityError: the owner hosts as many modules of `interface` as a table holds.
        WireError: the owner is lost, or does not answer in time.
        ProtocolError: the owner runs a release of torchremote that does not understand this one.
        ValueError: `timeout` is no number of seconds.

    In a group with a worker "owner":

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> layer = create("owner", Layer, torch.nn.Linear, args=(4, 2))
    >>> layer(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """
    asked = prepare(
        where,
        interface,
        module_cls,
        args,
        kwargs,
        name=name,
        if_exists=if_exists,
        timeout=timeout,
        in_turn=in_turn,
        examples=examples,
        gather=gather,
        checkpoint=checkpoint,
    )
    with cancelled_if_interrupted(asked.worker, asked.request.ticket):
        return send_request(*asked).wait()


@overload
def create_async(
    where: str,
    interface: HasStub[StubT],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Unpack[CreateOptions],
) -> Pending[StubT]: ...
@overload
def create_async(
    where: str,
    interface: type,
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Unpack[CreateOptions],
) -> Pending: ...
def create_async(
    where: str,
    interface: type | HasStub[Any],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    if_exists: IfExists = "raise",
    timeout: float | None = None,
    in_turn: bool | None = None,
    examples: Mapping[str, Any] | None = None,
    gather: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Pending:
    """Starts to create a module on another worker. It does not wait for the owner to build it.

    If the owner cannot import `module_cls`, as of a notebook's cell, this call may take long: it asks the owner for the
    class, and then builds and scripts or exports the module here.

    Args:
        where, interface, module_cls, args, kwargs, name, if_exists, timeout, in_turn, examples, gather, checkpoint: as
            for `create`.

    Returns:
        A `Pending`. Its `.wait()` returns the stub.

    Raises:
        As `create`. Errors that the caller can see are raised at once: a worker that is not there, a bad
        interface, or something that cannot be sent. Errors of the owner are raised by `.wait()`.

    In a group with a worker "owner":

    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> pending = create_async("owner", Layer, torch.nn.Linear, args=(4, 2))
    >>> layer = pending.wait()
    """
    asked = prepare(
        where,
        interface,
        module_cls,
        args,
        kwargs,
        name=name,
        if_exists=if_exists,
        timeout=timeout,
        in_turn=in_turn,
        examples=examples,
        gather=gather,
        checkpoint=checkpoint,
    )
    return send_request(*asked)


class Asked(NamedTuple):
    """Holds what `send_request` takes."""

    compiled: CompiledInterface
    worker: WorkerInfo
    request: CreateRequest
    timeout: float | None


def prepare(
    where: str,
    interface: type | HasStub[Any],
    module_cls: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    *,
    name: str | None = None,
    if_exists: IfExists = "raise",
    timeout: float | None = None,
    in_turn: bool | None = None,
    strict: bool = True,
    examples: Mapping[str, Any] | None = None,
    gather: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Asked:
    """Checks what was given to `create`, and makes the request, which is not sent yet. `strict`: as in the request."""
    make = checked(module_cls)  # first: if it and the interface are swapped, that is what is wrong with the interface
    compiled = compile_interface(interface)
    place = find_place(where)
    timeout = check_timeout(timeout)
    arguments = checked_arguments(module_cls, args, kwargs)
    check_gather(gather, compiled.interface)
    complete = None if examples is None else complete_examples(examples, compiled.interface, compiled.contract)
    request = request_for(
        place.device,
        compiled,
        make,
        *arguments,
        name=name,
        if_exists=if_exists,
        in_turn=in_turn,
        strict=strict,
        examples=complete,
        gather=gather,
        checkpoint=check_path(checkpoint),
    )
    return Asked(compiled, place.worker, request, timeout)


def adopt(rref: PyRRef[Any], compiled: CompiledInterface, device: str) -> PendingStub:
    """Asks for a stub of the module that `rref` refers to. The module stays where it is.

    Args:
        device: the module's device, if the module has no tensors that show it.
    """
    request = request_for(device, compiled, referenced, (rref,), {}, places=False, strict=False)
    return send_request(compiled, rref.owner(), request, timeout=None)
