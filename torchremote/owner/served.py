"""Hosts modules of this process, for `serve` and for `create`, and finds those that are served under names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from .. import _torch
from ..errors import ServedNameError, StaleStubError
from ..jit import Contract, compile_interface
from ..jit.read.shown import repr_of
from ..link.places import CPU
from ..locks import uninterrupted
from .checkpoints import check_path, restore
from .compiled import own_device
from .exported import complete_examples, export_for
from .implements import check_implements
from .modes import give_mode, set_if_changed
from .modules import (
    Entry,
    NameTaken,
    add,
    beside_calls,
    by_name,
    check_exchange,
    exchange,
    handle_for,
    remove_entry,
)
from .running.gathering import Gather, check_gather
from .running.hosting import Ways
from .running.tables import LOCK
from .running.turns import check_in_turn, prepare_turns
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
        NotSavableError: with `checkpoint`, as from `AtOwner.checkpoint`.
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
    check_served_name(name)
    read = compile_interface(interface)
    contract = read.contract
    check_in_turn(in_turn)
    check_gather(gather, read.interface)
    path = check_path(checkpoint)
    if examples is None:
        scripted = scripted_module(module, contract.interface)
    else:
        scripted = export_for(module, contract, complete_examples(examples, read.interface, contract))
    gathers = None if gather is None else Gather(gather, read.interface)
    ways = Ways(prepare_turns(scripted, in_turn, gather), gathers)
    if_exists = "replace" if replace else "raise"
    host(made_ready(scripted, contract, ways, path=path, name=name, if_exists=if_exists))


@dataclass(frozen=True)
class Ready:
    """A scripted module that is ready to be hosted, under a name or without one."""

    module: torch.jit.ScriptModule
    device: torch.device
    contract: Contract
    ways: Ways  # how its calls run
    name: str | None = None
    if_exists: str = "raise"  # "replace" puts it in the place of the module that has the name, if there is one
    owner: str | None = None  # how this worker is called, if a caller on another one is to read the error


def made_ready(
    module: torch.jit.ScriptModule,
    contract: Contract,
    ways: Ways,
    device: torch.device = CPU,
    path: str | None = None,
    name: str | None = None,
    if_exists: str = "raise",
    owner: str | None = None,
) -> Ready:
    """Makes a scripted module ready to be hosted: finds out its device, and gives it the state of its checkpoint.

    Args:
        device: that of a module without tensors.
        path: that of the checkpoint. A module that `host` would refuse keeps its own state.
        name, if_exists, owner: as in `Ready`.

    Raises:
        As `restore`, and with `path` as `host`, of which it is the first half.
    """
    device = beside_calls(module, partial(own_device, module, device))
    if path is not None:
        taken = _named(name)
        if taken is None:
            check_implements(module, contract)
        elif if_exists == "replace":
            check_exchange(taken, module, contract)
        else:
            raise _refusal(taken, owner)
        beside_calls(module, partial(restore, module, path))
    return Ready(module, device, contract, ways, name, if_exists, owner)


def host(ready: Ready) -> tuple[int, bool]:
    """Hosts a module, or raises and hosts nothing.

    Returns:
        Its handle, and whether it is a new one: it took no other module's place.

    Raises:
        ServedNameError: another module has the name, and `ready.if_exists` is not "replace".
        And as `handle_for` and `exchange`.
    """
    while True:
        taken = _named(ready.name) if ready.if_exists == "replace" else None
        # Another thread may take the name meanwhile, or withdraw what has it.
        if taken is None:
            try:
                return add(ready.contract, ready.module, ready.device, ready.ways, ready.name), True
            except NameTaken as error:
                first = error.first
            if ready.if_exists != "replace":
                raise _refusal(first, ready.owner)
            continue
        try:
            return _replace_by(ready, taken), False
        except StaleStubError:
            if not taken.gone:
                raise  # of a stub in the module


def _named(name: str | None) -> Entry | None:
    """Returns what is served under a name. None: nothing."""
    with LOCK:
        return None if name is None else by_name.get(name)


def _replace_by(ready: Ready, taken: Entry) -> int:
    """Puts a module in the place of another one. Returns its handle."""
    check_exchange(taken, ready.module, ready.contract)  # a module that is refused keeps its mode
    mode = give_mode(taken, ready.module)
    exchange(taken, ready.module, ready.device, ready.ways)
    set_if_changed(taken, mode)
    return handle_for(taken, ready.contract)


def _refusal(taken: Entry, owner: str | None) -> ServedNameError:
    serves = f"serves {taken.interface.name} under that name already"
    if owner is None:
        return ServedNameError(
            f"{taken.name!r}: this process {serves}; withdraw it, choose another, or serve with replace=True"
        )
    return ServedNameError(
        f"{taken.name!r}: the worker {owner!r} {serves}; if_exists='connect' takes that module, and "
        "if_exists='replace' puts the new one in its place; or choose another name, or withdraw it: "
        f"torchremote.withdraw({taken.name!r}, {owner!r})"
    )


def check_served_name(name: object) -> None:
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
        own = _torch.own_name()
        who = f"the worker {own!r}" if own else "this process"
        raise ServedNameError(f"{name!r}: not served by {who}; served are: {', '.join(sorted(by_name)) or 'none'}")
    return entry
