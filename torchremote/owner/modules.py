"""Adds, replaces and removes the modules of an owner; served.py gives them names.

Calls do not come through here: see jit/runtime/table.py.

Note [Lives]
    An unnamed module lives as long as there is a stub of it: see leases.py. A served module has no leases. It lives
    until it is withdrawn, or until another module takes its place under its name.

Note [Whole modules]
    To replace a module, or to move it to another device, its handles are made to lead to another module. A running call
    keeps the module with which it began, and the next call gets the other one. No call sees half of each, and none
    fails. So a module is never changed in place: moving makes a copy. The slot says whether tensors move, so existing
    stubs can call the module directly on any device.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

import torch

from ..errors import InterfaceError, StaleStubError
from ..jit import Contract, Interface
from ..link.failures import NO_MODULE
from ..locks import new_lock
from . import leases
from .counts import new_counts
from .gathering import Gather
from .hosting import Put, put_of
from .implements import check_implements
from .tables import LOCK, table_for, table_of
from .turns import strand_of

_by_handle: dict[int, Entry] = {}
by_name: dict[str, Entry] = {}  # for served.py, under LOCK
_exchanging = new_lock()  # one exchange at a time, so that each sees the result of the last one


@dataclass(eq=False)
class Entry:
    """A module that this process hosts. `name` never changes; everything else changes only under LOCK."""

    module: torch.jit.ScriptModule
    device: torch.device
    interface: Interface  # with which it was hosted
    name: str | None
    moves: bool  # whether tensors move to the device and back
    in_turn: bool  # whether calls run one after another
    gather: Gather | None  # how calls are gathered, if they are
    strand: object = None  # in which calls in turn run, with the native part
    handles: dict[str, int] = field(default_factory=dict)  # by the scope of the interface that calls it
    number: int = field(default_factory=itertools.count(1).__next__)  # counts all modules ever hosted here
    exchanged: int = 0  # how often the module was exchanged
    since: float = field(default_factory=time.time)  # when the module came, in seconds of Unix time
    gone: bool = False
    counts: object = field(default_factory=new_counts)  # in what its calls are counted, if they are


def new_entry(
    module: torch.jit.ScriptModule,
    device: torch.device,
    contract: Contract,
    name: str | None,
    moves: bool | None = None,
    in_turn: bool = False,
    gather: Gather | None = None,
) -> Entry:
    """Makes an entry. `moves` None: tensors move if `device` is an accelerator."""
    moves = device.type != "cpu" if moves is None else moves
    strand = strand_of(module) if in_turn or gather is not None else None
    return Entry(module, device, contract.interface, name, moves, in_turn, gather, strand)


def add(
    contract: Contract,
    module: torch.jit.ScriptModule,
    device: torch.device,
    moves: bool | None = None,
    in_turn: bool = False,
    gather: Gather | None = None,
) -> int:
    """Hosts a scripted module without a name. Returns its handle.

    Args:
        moves: whether tensors move to the device and back. None: they do on an accelerator. Tests set it otherwise.
        in_turn: whether calls run one after another: see turns.py.
        gather: how they are gathered, if they are: see gathering.py.

    Raises:
        As `handle_for`.
    """
    return handle_for(new_entry(module, device, contract, None, moves, in_turn, gather), contract)


def handle_for(entry: Entry, contract: Contract) -> int:
    """Returns the handle under which stubs of an interface call a module. Puts the module into the table if need be.

    Raises:
        MismatchError: the module does not implement the interface.
        CapacityError: this worker hosts as many modules of the interface as a table holds.
        InterfaceError: a class of the interface was defined anew in this process.
        StaleStubError: the module is no longer hosted.
    """
    if not contract.table_is_live:
        raise InterfaceError(
            f"{contract.interface.name}: an enum or NamedTuple of it was defined anew since it was first compiled "
            "here, and TorchScript keeps what it compiled; restart the process, or give the interface another name"
        )
    put, prepared_for = None, -1
    while True:
        with LOCK:
            if entry.gone:
                raise _stale()
            if contract.scope not in entry.handles and put is not None and prepared_for == entry.exchanged:
                handle = table_for(contract).insert(put)
                entry.handles[contract.scope] = handle
                _by_handle[handle] = entry
            if contract.scope in entry.handles:
                return entry.handles[contract.scope]
            module, prepared_for = entry.module, entry.exchanged
            how = (entry.counts, entry.device, entry.moves, entry.in_turn, entry.gather, entry.strand)
        check_implements(module, contract)
        put = put_of(contract, module, *how)


def start_lease(handle: int, holder: int, ticket: str) -> None:
    """Makes the module live as long as its leases, from now on. The first is that of `holder`, a worker's id."""
    leases.start(handle, remove, holder, ticket)


def remove(handle: int) -> None:
    """Stops hosting the module that `handle` leads to. Does nothing when it is gone already."""
    with LOCK:
        entry = _by_handle.get(handle)
        if entry is not None:
            remove_entry(entry)


def remove_all(handles: list[int]) -> None:
    """Stops hosting the modules that `handles` lead to."""
    for handle in handles:
        remove(handle)


def remove_entry(entry: Entry) -> None:
    """Takes a module out of all tables. Called under LOCK."""
    entry.gone = True
    if entry.name is not None and by_name.get(entry.name) is entry:
        del by_name[entry.name]
    for handle in entry.handles.values():
        del _by_handle[handle]
        table_of(handle).remove(handle)
        leases.remove(handle)


def entry_at(handle: int) -> tuple[Entry, Contract]:
    """Returns the module that `handle` leads to, and the interface through which the handle calls it.

    Raises:
        StaleStubError: the module is gone.
    """
    with LOCK:
        entry = _by_handle.get(handle)
        if entry is None:
            raise _stale()
        return entry, table_of(handle).contract


def is_hosted_here(handle: int) -> bool:
    """Says whether `handle` leads to a module."""
    with LOCK:
        return handle in _by_handle


def _stale() -> StaleStubError:
    return StaleStubError(NO_MODULE)


def entries_here() -> list[Entry]:
    """Lists what this process hosts, in the order in which it was added. Called under LOCK."""
    return list(dict.fromkeys(_by_handle.values()))


# -- exchanging a module for another


def exchange(
    entry: Entry,
    module: torch.jit.ScriptModule,
    device: torch.device,
    in_turn: bool,
    gather: Gather | None,
    instead_of: torch.jit.ScriptModule | None = None,
) -> bool:
    """Puts `module` in the place of the hosted one, or raises and changes nothing: see Note [Whole modules].

    Args:
        device: the device of `module`.
        in_turn, gather: whether its calls run one after another, and how they are gathered.
        instead_of: exchanges only if this is the hosted module; otherwise does nothing and returns False.

    Raises:
        MismatchError: `module` does not implement every interface through which the hosted one is called.
        StaleStubError: the hosted module is gone.
    """
    with _exchanging:
        if instead_of is not None and entry.module is not instead_of:
            return False
        while not _try_exchange(entry, module, device, in_turn, gather):
            pass
    return True


def check_exchange(entry: Entry, module: torch.jit.ScriptModule) -> None:
    """Raises MismatchError if `module` does not implement every interface through which the hosted one is called."""
    with LOCK:
        contracts = [] if entry.gone else [table_of(handle).contract for handle in entry.handles.values()]
    for contract in contracts:
        check_implements(module, contract)


def _try_exchange(
    entry: Entry, module: torch.jit.ScriptModule, device: torch.device, in_turn: bool, gather: Gather | None
) -> bool:
    """Exchanges the module. Returns False and changes nothing if a handle was added meanwhile."""
    with LOCK:
        if entry.gone:
            raise _stale()
        tables = {handle: table_of(handle) for handle in entry.handles.values()}
    for table in tables.values():
        check_implements(module, table.contract)
    moves = device.type != "cpu"
    strand = strand_of(module, entry.strand) if in_turn or gather is not None else entry.strand
    puts: dict[int, Put] = {}
    for handle, table in tables.items():
        puts[handle] = put_of(table.contract, module, entry.counts, device, moves, in_turn, gather, strand)
    with LOCK:
        if entry.gone or set(entry.handles.values()) != tables.keys():
            return False
        entry.module, entry.device, entry.moves, entry.in_turn = module, device, moves, in_turn
        entry.gather, entry.strand = gather, strand
        entry.exchanged += 1
        entry.since = time.time()
        for handle, table in tables.items():
            table.replace(handle, puts[handle])
    return True


def is_training(module: torch.jit.ScriptModule) -> bool:
    """Returns a module's training mode. A frozen one has none, and was frozen in evaluation."""
    return bool(getattr(module, "training", False))
