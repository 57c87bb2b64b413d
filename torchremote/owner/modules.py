"""Adds, replaces and removes the modules of an owner; served.py gives them names.

Calls do not come through here: see jit/runtime/table.py.

Note [Lives]
    An unnamed module lives as long as there is a stub of it: see lives/leases.py. A served module has no leases. It
    lives until it is withdrawn, or until another module takes its place under its name.

Note [Whole modules]
    To replace a module, or to move it to another device, its handles are made to lead to another module. A running call
    keeps the module with which it began, and the next call gets the other one. No call sees half of each, and none
    fails. So a module is never changed in place: moving makes a copy. The slot says whether tensors move, so existing
    stubs can call the module directly on any device.

Note [Python beside calls]
    A call in turn may assign an attribute, and let go of the value that was there. Python that reads it at that moment
    reads freed memory, and what it writes may be lost. So Python reads, changes and copies a hosted module in a turn of
    its own: in `between_calls`, as a whole. It looks up tensors, and exchanges the module, in the same turn as what it
    does with them. A module that is hosted once more is also read in a turn: in `beside_calls`. All that is asked often
    is found out when the module is hosted, and stands in its `Hosting`.

    A turn comes before all locks: what has `_exchanging` or LOCK never waits for a turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch

from .. import _torch
from ..errors import InterfaceError, MismatchError, StaleStubError
from ..jit import Contract, Interface
from ..jit.runtime.table import POSITION_BITS
from ..link.failures import NO_MODULE
from ..locks import new_lock, uninterrupted
from .implements import check_implements
from .lives import leases
from .running.counts import new_counts
from .running.hosting import AT_ONCE, Hosting, Put, Ways, hosting_of, objects_in, put_of, wait_for_device
from .running.tables import LOCK, OwnerTable, table_for
from .running.turns import take_turn

T = TypeVar("T")

# all three under tables.LOCK
_by_handle: dict[int, tuple[Entry, OwnerTable]] = {}
_by_part: dict[object, list[Hosting]] = {}  # by the parts of modules that take turns
by_name: dict[str, Entry] = {}
_exchanging = new_lock()  # one exchange at a time, so that each sees the result of the last one


@dataclass(eq=False)
class Entry:
    """A module that this process hosts. `name` never changes; all else but `mode` changes only under LOCK."""

    hosting: Hosting  # read it once for all that belongs together
    interface: Interface  # with which it was hosted
    name: str | None
    handles: dict[OwnerTable, int] = field(default_factory=dict)  # by the table of the interface that calls it
    number: int = field(default_factory=itertools.count(1).__next__)  # counts all modules ever hosted here
    gone: bool = False
    mode: bool | None = None  # that a caller set last: see modes.py
    counts: object = field(default_factory=new_counts)  # in what its calls are counted, if they are


class NameTaken(Exception):
    """Says that another module has the name already."""

    def __init__(self, first: Entry) -> None:
        self.first = first


def add(
    contract: Contract,
    module: torch.jit.ScriptModule,
    device: torch.device,
    ways: Ways = AT_ONCE,
    name: str | None = None,
) -> int:
    """Hosts a scripted module. Returns its handle. Raises as `handle_for`."""
    hosting = beside_calls(module, partial(hosting_of, module, device, ways))
    return handle_for(Entry(hosting, contract.interface, name), contract)


def handle_for(entry: Entry, contract: Contract) -> int:
    """Returns the handle under which stubs of an interface call a module. Puts the module into the table if need be.

    Raises:
        MismatchError: the module does not implement the interface.
        CapacityError: this worker hosts as many modules of the interface as a table holds.
        InterfaceError: a class of the interface was defined anew in this process.
        StaleStubError: the module is no longer hosted.
        NameTaken: it is not hosted yet, and another one has its name.
    """
    if not contract.table_is_live:
        raise InterfaceError(
            f"{contract.interface.name}: an enum or NamedTuple of it was defined anew since it was first compiled "
            "here, and TorchScript keeps what it compiled; restart the process, or give the interface another name"
        )
    while True:
        with LOCK:
            table = table_for(contract)
            if entry.gone:
                raise _stale()
            if table in entry.handles:
                return entry.handles[table]
            hosting = entry.hosting
        check_implements(hosting.module, contract)
        put = put_of(contract, hosting, entry.counts)
        handle = uninterrupted(partial(_insert, entry, table, hosting, put))
        if handle is not None:
            return handle


def _insert(entry: Entry, table: OwnerTable, hosting: Hosting, put: Put) -> int | None:
    """Puts a module into a table, and gives it its name when it is hosted first. Returns the handle.

    Returns:
        None if the module was exchanged since, and `put` is for the old `hosting`.
    """
    with LOCK:
        if entry.gone:
            raise _stale()
        if table in entry.handles:
            return entry.handles[table]
        if entry.hosting is not hosting:
            return None
        is_first = not entry.handles
        if is_first and entry.name is not None and entry.name in by_name:
            raise NameTaken(by_name[entry.name])
        handle = table.insert(put)
        if is_first:
            _note_parts(hosting)
            if entry.name is not None:
                by_name[entry.name] = entry
        entry.handles[table] = handle
        _by_handle[handle] = entry, table
        return handle


def remove(handle: int) -> None:
    """Stops hosting the module that `handle` leads to. Does nothing when it is gone already."""
    uninterrupted(partial(_remove, handle))


def _remove(handle: int) -> None:
    with LOCK:
        if handle in _by_handle:
            remove_entry(_by_handle[handle][0])


def remove_all(handles: list[int]) -> None:
    """Stops hosting the modules that `handles` lead to."""
    for handle in handles:
        remove(handle)


def remove_entry(entry: Entry) -> None:
    """Takes a module out of all tables, or raises and changes nothing. Called under LOCK, and `uninterrupted`."""
    for table, handle in entry.handles.items():
        table.remove(handle)  # only the first may raise: with it, the sweeper's thread runs
        del _by_handle[handle]
        leases.remove(handle)
    if entry.name is not None and by_name.get(entry.name) is entry:
        del by_name[entry.name]
    entry.gone = True
    if entry.handles:
        _forget_parts(entry.hosting)


def entry_at(handle: int) -> tuple[Entry, Contract]:
    """Returns the module that `handle` leads to, and the interface through which the handle calls it.

    Raises:
        StaleStubError: the module is gone.
    """
    with LOCK:
        if handle not in _by_handle:
            raise _stale()
        entry, table = _by_handle[handle]
        return entry, table.contract


def is_hosted_here(handle: int) -> bool:
    """Says whether `handle` leads to a module."""
    with LOCK:
        return handle in _by_handle


def _stale() -> StaleStubError:
    return StaleStubError(NO_MODULE)


def progress_here(handle: int, batch: int) -> int | None:
    """Returns the position of the last call of a batch that began. None if it is no longer known.

    See jit/runtime/table.py, Note [Which call failed].
    """
    with LOCK:
        if handle in _by_handle:
            noted: int = _by_handle[handle][1].contract.table.progress(batch)
            if noted >> POSITION_BITS == batch >> POSITION_BITS:
                return noted - batch
    return None


def entries_here() -> list[Entry]:
    """Lists what this process hosts, in the order in which it was added. Called under LOCK."""
    return list(dict.fromkeys(entry for entry, _ in _by_handle.values()))


# -- between two calls


def between_calls(entry: Entry, function: Callable[[Hosting], T]) -> T:
    """Calls `function` with what is hosted, between two calls if these take turns: see Note [Python beside calls]."""
    while True:
        hosting = entry.hosting

        def run(hosting: Hosting = hosting) -> list[T]:
            return [function(hosting)] if entry.hosting is hosting else []

        found = take_turn(hosting, run)
        if found:
            return found[0]


def beside_calls(module: torch.jit.ScriptModule, function: Callable[[], T]) -> T:
    """Calls a function that looks into a module, between two calls of modules with which it shares a part."""
    parts = objects_in(module)
    with LOCK:
        hosting = next((_by_part[part][0] for part in parts if part in _by_part), None)
    return function() if hosting is None else take_turn(hosting, function)


def _note_parts(hosting: Hosting) -> None:
    """Notes that calls run in a module. Called under LOCK."""
    for part in hosting.parts:
        _by_part.setdefault(part, []).append(hosting)


def _forget_parts(hosting: Hosting) -> None:
    """Undoes `_note_parts`. Called under LOCK."""
    for part in hosting.parts:
        _by_part[part].remove(hosting)
        if not _by_part[part]:
            del _by_part[part]


# -- exchanging a module for another


def exchange(entry: Entry, module: torch.jit.ScriptModule, device: torch.device, ways: Ways) -> None:
    """Puts `module` in the place of the hosted one, or raises and changes nothing: see Note [Whole modules].

    Args:
        device: the device of `module`.
        ways: how its calls run.

    Raises:
        MismatchError: `module` does not implement every interface through which the hosted one is called.
        StaleStubError: the hosted module is gone.
    """

    def run() -> None:
        with _exchanging:
            before = entry.hosting
            is_same = _torch.object_of(before.module) == _torch.object_of(module)
            _exchange(entry, hosting_of(module, device, ways, before), is_same)

    wait_for_device(device)  # of what this thread gave it: `run` is in another one
    beside_calls(module, partial(uninterrupted, run))


def exchange_in_turn(entry: Entry, before: Hosting, module: torch.jit.ScriptModule, device: torch.device) -> bool:
    """Puts the module, or a copy of it, in its own place. Only its turn may call this.

    Returns:
        False if it did nothing, because another module has come since `before`.
    """
    with _exchanging:
        if entry.hosting is not before:
            return False
        _exchange(entry, hosting_of(module, device, before.ways, before), True)
    return True


def check_exchange(entry: Entry, module: torch.jit.ScriptModule, contract: Contract) -> None:
    """Raises MismatchError if `module` does not implement `contract`, its own, or another one that calls `entry`."""
    check_implements(module, contract)
    with LOCK:
        contracts = [] if entry.gone else [table.contract for table in entry.handles]
    for another in contracts:
        if another is not contract:
            _check_stays_callable(entry, another, module)


def _check_stays_callable(entry: Entry, contract: Contract, module: torch.jit.ScriptModule) -> None:
    """Raises MismatchError if `module` does not implement an interface through which the hosted one is called."""
    try:
        check_implements(module, contract)
    except MismatchError as error:
        raise MismatchError(
            f"{entry.name!r}: stubs call it as {contract.interface.name}, so what takes its place has to implement "
            f"that, too; or withdraw {entry.name!r} first. {error}"
        ) from None


def _exchange(entry: Entry, hosting: Hosting, is_same: bool) -> None:
    """Exchanges what is hosted. Called under `_exchanging`. `is_same`: as for `put_of`."""
    while True:
        with LOCK:
            if entry.gone:
                raise _stale()
            handles = dict(entry.handles)
        for table in handles:
            _check_stays_callable(entry, table.contract, hosting.module)
        puts = {table: put_of(table.contract, hosting, entry.counts, is_same) for table in handles}
        with LOCK:
            if not entry.gone and entry.handles == handles:  # or a handle was added meanwhile
                _note_parts(hosting)
                _forget_parts(entry.hosting)
                entry.hosting = hosting
                for table, put in puts.items():
                    table.replace(handles[table], put)
                return
