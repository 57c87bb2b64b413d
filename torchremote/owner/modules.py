"""Modules on their owner: how they are added, named and removed, and what happens to one under its callers.

Calls do not come through here: see jit/runtime/table.py.

Note [Lives]
    An unnamed module lives as long as a stub of it: see leases.py. A served module has no leases and lives until it is
    withdrawn; another may take its place under its name.

Note [Whole modules]
    A module is replaced, or moved to another device, by exchanging what its handles lead to. A call that runs keeps the
    module that it began with, and the next call gets the other one. No call meets with half of each, and none fails. So
    nothing of a module is changed in place: moving makes a copy. A slot says whether tensors move, so stubs that are
    out call the module directly wherever it is.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from .. import _torch
from ..errors import CreationError, InterfaceError, MismatchError, ServedNameError, StaleStubError
from ..jit import Contract, Interface, compile_interface
from ..jit.script.cache import COMPILING
from ..link.places import device_of
from . import leases
from .implements import check_implements
from .tables import LOCK, table_for, table_of

_by_handle: dict[int, Entry] = {}
_by_name: dict[str, Entry] = {}
_exchanging = threading.Lock()  # one at a time, so that each sees what the last one made


@dataclass(eq=False)
class Entry:
    """A module that this process hosts. All but `name` is changed under LOCK."""

    module: torch.jit.ScriptModule
    device: torch.device
    interface: Interface  # that it was hosted with
    name: str | None
    moves: bool  # whether tensors move to the device and back
    handles: dict[str, int] = field(default_factory=dict)  # by the scope of the interface that calls it
    number: int = field(default_factory=itertools.count(1).__next__)  # of all that were ever hosted here
    exchanged: int = 0  # how many modules there were before this one
    gone: bool = False


@dataclass(frozen=True)
class ModuleStats:
    """What a worker says of a module that it hosts."""

    number: int  # counts the modules that the worker has hosted so far: this one's own, for ever
    interface: str  # the name of the interface that it was hosted with
    name: str | None  # under which it is served
    device: str
    holders: int | None  # workers that hold stubs of it; None: it is served, and lives without stubs


def _entry(
    module: torch.jit.ScriptModule, device: torch.device, contract: Contract, name: str | None, moves: bool | None
) -> Entry:
    return Entry(module, device, contract.interface, name, device.type != "cpu" if moves is None else moves)


def add(contract: Contract, module: torch.jit.ScriptModule, device: torch.device, moves: bool | None = None) -> int:
    """Hosts a scripted module without a name; returns its handle.

    Args:
        moves: whether tensors move to the device and back; None: on an accelerator. Tests have it otherwise.

    Raises:
        What `handle_for` raises.
    """
    return handle_for(_entry(module, device, contract, None, moves), contract)


def handle_for(entry: Entry, contract: Contract) -> int:
    """Returns the handle under which stubs of an interface call a module.

    Raises:
        MismatchError: the module does not implement the interface.
        CapacityError: this worker hosts as many modules of the interface as a table holds.
        InterfaceError: a class of the interface was defined anew in this process.
        StaleStubError: it is not hosted any more.
    """
    if not contract.table_is_live:
        raise InterfaceError(
            f"{contract.interface.name}: an enum or NamedTuple of it was defined anew since it was first compiled "
            "here, and TorchScript keeps what it compiled; restart the process, or give the interface another name"
        )
    checked = None
    while True:
        with LOCK:
            if entry.gone:
                raise _stale()
            module = entry.module
            if contract.scope not in entry.handles and checked is module:
                handle = table_for(contract).insert(module, entry.device, entry.moves)
                entry.handles[contract.scope] = handle
                _by_handle[handle] = entry
            if contract.scope in entry.handles:
                return entry.handles[contract.scope]
        check_implements(module, contract)
        checked = module


def start_lease(handle: int) -> None:
    """Has the module live as long as its leases, from now on."""
    leases.start(handle, remove)


def remove(handle: int) -> None:
    """Stops hosting the module that `handle` leads to. Does nothing when it is gone already."""
    with LOCK:
        entry = _by_handle.get(handle)
        if entry is not None:
            _remove(entry)


def remove_all(handles: list[int]) -> None:
    for handle in handles:
        remove(handle)


def _remove(entry: Entry) -> None:
    entry.gone = True
    if entry.name is not None and _by_name.get(entry.name) is entry:
        del _by_name[entry.name]
    for handle in entry.handles.values():
        del _by_handle[handle]
        table_of(handle).remove(handle)
        leases.remove(handle)


def entry_at(handle: int) -> tuple[Entry, Contract]:
    """Returns what `handle` leads to, and the interface that calls it there.

    Raises:
        StaleStubError: nothing is there.
    """
    with LOCK:
        entry = _by_handle.get(handle)
        if entry is None:
            raise _stale()
        return entry, table_of(handle).contract


def _stale() -> StaleStubError:
    return StaleStubError("its module was withdrawn; create or connect again")


def stats_here() -> list[ModuleStats]:
    """Lists what this process hosts, in the order in which it was added."""
    with LOCK:
        entries = list(dict.fromkeys(_by_handle.values()))
        return [
            ModuleStats(
                entry.number,
                entry.interface.name,
                entry.name,
                str(entry.device),
                leases.count_holders(entry.handles.values()) if entry.name is None else None,
            )
            for entry in entries
        ]


# -- another module in the place of one


def exchange(
    entry: Entry, module: torch.jit.ScriptModule, device: torch.device, instead_of: torch.jit.ScriptModule | None = None
) -> bool:
    """Puts `module` in the place of the one that is hosted, or raises and changes nothing: see Note [Whole modules].

    Args:
        device: that `module` is on.
        instead_of: does nothing, and returns False, unless this is what is hosted.

    Raises:
        MismatchError: it does not implement every interface that there are stubs of.
        StaleStubError: what was hosted is gone.
    """
    with _exchanging:
        if instead_of is not None and entry.module is not instead_of:
            return False
        while not _try_exchange(entry, module, device):
            pass
    return True


def _try_exchange(entry: Entry, module: torch.jit.ScriptModule, device: torch.device) -> bool:
    """Returns False, and changes nothing, if a handle was added meanwhile."""
    with LOCK:
        if entry.gone:
            raise _stale()
        tables = {handle: table_of(handle) for handle in entry.handles.values()}
    for table in tables.values():
        check_implements(module, table.contract)
    with LOCK:
        if entry.gone or set(entry.handles.values()) != tables.keys():
            return False
        entry.module, entry.device, entry.moves = module, device, device.type != "cpu"
        entry.exchanged += 1
        for handle, table in tables.items():
            table.replace(handle, module, device, entry.moves)
    return True


# -- served modules


def serve(module: torch.nn.Module, interface: type, name: str, *, replace: bool = False) -> None:
    """Offers a module of this process under `name`, to `connect` from any worker, until `withdraw(name)`.

    RPC need not be running yet. The module is scripted, unless it is; the caller's object and the served one share
    their parameters.

    Args:
        module: implements `interface`; on whatever device.
        interface: a class of annotated methods.
        name: unique in this process.
        replace: puts `module` in the place of what is served under `name`, if anything is. Stubs stay connected: each
            call gets the old module or the new one, whole, and none fails.

    Raises:
        ServedNameError: `name` is taken, and `replace` is not set.
        MismatchError: `module` does not implement `interface`; or, when it replaces another, every interface that
            this one is called through.

    >>> class Doubler:
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor: ...
    >>> class Doubling(torch.nn.Module):
    ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
    ...         return 2 * x
    >>> serve(Doubling(), Doubler, "doubler")
    >>> withdraw("doubler")
    """
    check_name(name)
    contract = compile_interface(interface).contract
    scripted = scripted_module(module, contract.interface)
    while True:
        with LOCK:
            taken = _by_name.get(name) if replace else None
        try:
            if taken is None:
                add_named(scripted, device_of(scripted), contract, name)
            else:
                check_implements(scripted, contract)
                exchange(taken, scripted, device_of(scripted))
            return
        except (ServedNameError, StaleStubError):  # another thread took the name, or withdrew what had it
            if not replace:
                raise


def add_named(
    module: torch.jit.ScriptModule, device: torch.device, contract: Contract, name: str, moves: bool | None = None
) -> int:
    """Hosts a scripted module and gives it its name, or does neither; returns its handle. `moves`: as for `add`."""
    check_name(name)
    entry = _entry(module, device, contract, name, moves)
    handle = handle_for(entry, contract)
    with LOCK:
        # Hosted first: whoever finds the name must be able to call.
        first = _by_name.setdefault(name, entry)
    if first is entry:
        return handle
    remove(handle)
    raise ServedNameError(
        f"{name!r}: this process serves a {first.interface.name} under that name; withdraw it, choose another, or "
        "serve with replace=True"
    )


def check_name(name: object) -> None:
    """Raises ServedNameError for what cannot be a served name."""
    if not isinstance(name, str) or not name:
        raise ServedNameError(f"name={name!r}: a served name is a string that is not empty")


def withdraw(name: str) -> None:
    """Ends `serve(..., name)`. Calls that are running finish; later ones raise StaleStubError.

    Args:
        name: that a module of this process is served under, by `serve` or by `create(..., name=)`.

    Raises:
        ServedNameError: nothing is served under `name` here.
    """
    with LOCK:
        _remove(_served(name))


def served_module(name: str) -> torch.jit.ScriptModule:
    """Returns what this process serves under `name`: for its owner's own use, such as an optimizer's.

    Raises:
        ServedNameError: nothing is served under `name` here.
    """
    with LOCK:
        return _served(name).module


def find_served(contract: Contract, name: str) -> tuple[int, torch.device]:
    """Finds what is served as `name`: the handle for stubs of an interface, and the module's device.

    Raises:
        ServedNameError: nothing is served under `name` here.
        What `handle_for` raises.
    """
    while True:
        with LOCK:
            entry = _served(name)
        with suppress(StaleStubError):  # withdrawn meanwhile: by now, the name may be another's
            return handle_for(entry, contract), entry.device


def _served(name: str) -> Entry:
    entry = _by_name.get(name)
    if entry is None:
        raise ServedNameError(
            f"{name!r}: not served by this worker; served are: {', '.join(sorted(_by_name)) or 'none'}"
        )
    return entry


def scripted_module(module: object, interface: Interface) -> torch.jit.ScriptModule:
    """Returns `module` itself when it is scripted, or else scripts it with all methods of `interface`.

    Raises:
        MismatchError: it is no module, or lacks a method.
        CreationError: TorchScript refuses it.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if not isinstance(module, torch.nn.Module):
        raise MismatchError(f"{interface.name}: {module!r} is not a torch.nn.Module; what is hosted has to be one")
    for method in interface.methods:
        if not callable(getattr(module, method.name, None)):
            raise MismatchError(
                f"{interface.name}.{method.name}: {type(module).__name__} has no such method; expected\n  {method}"
            )
    try:
        with COMPILING:
            return _torch.script_module(module, [method.name for method in interface.methods])
    except Exception as error:  # whatever TorchScript's compiler raises for a user's module
        raise CreationError(f"{type(module).__name__} cannot be scripted: {error}") from error
