"""Serves modules of this process under names: by `serve`, and for `create(..., name=)`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from ..errors import ServedNameError, StaleStubError
from ..jit import Contract, compile_interface
from ..jit.read.shown import repr_of
from ..locks import uninterrupted
from .checkpoints import check_path, restore
from .compiled import own_device
from .exported import complete_examples, export_for
from .implements import check_implements
from .modes import give_mode, set_if_changed
from .modules import (
    Entry,
    NameTaken,
    beside_calls,
    by_name,
    check_exchange,
    exchange,
    handle_for,
    new_entry,
    remove_entry,
)
from .running.gathering import Gather, Ways, check_gather
from .running.tables import LOCK
from .running.turns import check_in_turn, runs_in_turn
from .scripting import scripted_module


def serve(
    module: torch.nn.Module,
    interface: type,
    name: str,
    *,
    replace: bool = False,
    in_turn: bool | None = None,
    examples: Mapping[str, Any] | None = None,
    gather: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> None:
    """Serves a module of this process under `name`. Any worker can `connect` to it, until `withdraw(name)`.

    RPC need not be running yet. The module is scripted if it is not yet. The served module shares its parameters with
    `module`.

    Args:
        module: a module that implements `interface`, on any device.
        interface: a class of annotated methods.
        name: a name that nothing else is served under in this process.
        replace: True puts `module` in the place of the one that is served under `name`, if there is one. Stubs stay
            connected. Each call runs on the whole old module or on the whole new one, and none fails. If a caller set
            a mode, `module` gets that mode.
        in_turn: as for `create`.
        examples: as for `create`: the module is exported, and not scripted.
        gather: as for `create`.
        checkpoint: as for `create`: a file from which `module` gets its state, if it is there.

    Raises:
        ServedNameError: `name` is taken and `replace` is False, or `name` is no string, or empty.
        InterfaceError: `interface` has a signature that cannot cross.
        MismatchError: `module` does not implement `interface`. If it replaces another module: it does not implement
            every interface through which that one is called.
        ArgumentError: an example does not fit `interface`, or calls cannot be gathered as `gather` says, or `in_turn`
            is none of the three, or `checkpoint` is no path, or `module` was exported in another mode than it has now.
        CreationError: TorchScript cannot script `module`, or torch.export cannot export it, or its calls have to run in
            turn and this process cannot do that. Or `checkpoint` cannot be read.
        NotSavableError: with `checkpoint`, as from `AtOwner.state_dict`.
        CapacityError: this process hosts as many modules of `interface` as a table holds.

    >>> class Doubler:
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> class Doubling(torch.nn.Module):
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
    ...         return 2 * x
    >>> serve(Doubling(), Doubler, "doubler")
    >>> from torchremote import withdraw
    >>> withdraw("doubler")
    """
    check_name(name)
    read = compile_interface(interface)
    contract = read.contract
    check_in_turn(in_turn)
    check_gather(gather, read.interface)
    path = check_path(checkpoint)
    if examples is None:
        scripted = scripted_module(module, contract.interface)
    else:
        scripted = export_for(module, contract, complete_examples(examples, read.interface, contract))
    device = beside_calls(scripted, partial(own_device, scripted))
    one_by_one = runs_in_turn(scripted, in_turn, gather)
    if path is not None:
        _check_may_serve(scripted, contract, name, replace)  # a module that is refused keeps its own state
        beside_calls(scripted, partial(restore, scripted, path))
    host = put_named if replace else add_named
    gathers = None if gather is None else Gather(gather, read.interface)
    host(scripted, device, contract, name, Ways(one_by_one, gathers))


def _check_may_serve(module: torch.jit.ScriptModule, contract: Contract, name: str, replace: bool) -> None:
    """Raises what `serve` would raise for a module that cannot take its name."""
    with LOCK:
        taken = by_name.get(name)
    check_implements(module, contract)
    if taken is not None and not replace:
        raise _taken(name, taken)
    if taken is not None:
        check_exchange(taken, module)


def _taken(name: str, entry: Entry) -> ServedNameError:
    return ServedNameError(
        f"{name!r}: this process serves {entry.interface.name} under that name already; withdraw it, choose another, "
        "or serve with replace=True"
    )


def put_named(
    module: torch.jit.ScriptModule, device: torch.device, contract: Contract, name: str, ways: Ways
) -> tuple[int, bool]:
    """Hosts a scripted module under a name, in the place of the one that has the name, if there is one.

    Returns:
        Its handle, and whether it is a new one: no module had the name.

    Raises:
        ServedNameError: `name` cannot be a served name.
    """
    check_name(name)
    while True:
        with LOCK:
            taken = by_name.get(name)
        # Another thread may take the name meanwhile, or withdraw what has it.
        if taken is None:
            with suppress(ServedNameError):
                return add_named(module, device, contract, name, ways), True
            continue
        try:
            check_implements(module, contract)
            check_exchange(taken, module)
            mode = give_mode(taken, module)
            exchange(taken, module, device, ways)
            set_if_changed(taken, mode)
            return handle_for(taken, contract), False
        except StaleStubError:
            if not taken.gone:
                raise  # of a stub in the module


def add_named(
    module: torch.jit.ScriptModule,
    device: torch.device,
    contract: Contract,
    name: str,
    ways: Ways,
    owner: str | None = None,
) -> int:
    """Hosts a scripted module under a name, or raises and hosts nothing. Returns its handle.

    Args:
        ways: how its calls run.
        owner: how this worker is called, if a caller on another one is to read the error.
    """
    check_name(name)
    entry = new_entry(module, device, contract, name, ways)
    try:
        return handle_for(entry, contract)
    except NameTaken as taken:
        first = taken.first
    if owner is None:
        raise _taken(name, first)
    raise ServedNameError(
        f"{name!r}: the worker {owner!r} serves {first.interface.name} under that name already; if_exists='connect' "
        f"takes that module, and if_exists='replace' puts the new one in its place; or choose another name, or "
        f"withdraw it: torchremote.withdraw({name!r}, {owner!r})"
    )


def check_name(name: object) -> None:
    """Raises ServedNameError if `name` cannot be a served name."""
    if not isinstance(name, str) or not name or not _is_utf8(name):
        raise ServedNameError(
            f"name={repr_of(name)}: a served name is a string that is not empty, and can be sent as UTF-8"
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def withdraw_here(name: str) -> None:
    """Stops serving the module that this process serves under `name`.

    Raises:
        ServedNameError: this process serves nothing under `name`.
    """
    uninterrupted(partial(_withdraw, name))


def _withdraw(name: str) -> None:
    with LOCK:
        remove_entry(_served(name))


def served_module(name: str) -> torch.jit.ScriptModule:
    """Returns the module that this process serves under `name`, for use on the owner itself, as by an optimizer.

    Raises:
        ServedNameError: this process serves nothing under `name`.
    """
    with LOCK:
        return _served(name).hosting.module


def interface_here(name: str) -> tuple[str, str]:
    """Returns the qualified name and the declaration of the interface with which a module is served under `name`.

    Raises:
        ServedNameError: this process serves nothing under `name`.
    """
    with LOCK:
        interface = _served(name).interface
    return interface.qualified_name, interface.declaration


def find_served(contract: Contract, name: str) -> tuple[int, Entry]:
    """Finds the module that is served as `name`. Returns the handle for stubs of an interface, and the entry.

    Raises:
        ServedNameError: this process serves nothing under `name`.
        And as `handle_for`.
    """
    while True:
        with LOCK:
            entry = _served(name)
        with suppress(StaleStubError):  # it was withdrawn meanwhile; another may have the name by now
            return handle_for(entry, contract), entry


def _served(name: str) -> Entry:
    """Returns the entry of a served module, or raises ServedNameError. Called under LOCK."""
    entry = by_name.get(name)
    if entry is None:
        who = f"the worker {rpc.get_worker_info().name!r}" if _torch.rpc_running() else "this process"
        raise ServedNameError(f"{name!r}: not served by {who}; served are: {', '.join(sorted(by_name)) or 'none'}")
    return entry
