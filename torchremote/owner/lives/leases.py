"""Keeps the leases of modules without a name. When the last lease of a module ends, its owner removes the module.

Note [Leases]
    An unnamed module lives as long as there is a stub of it, on any worker. Every stub holds a lease: an RRef to a
    `Lease` on the owner. Calls never carry it. torch drops the RRef with the last stub, even inside a scripted model.
    torch counts references but does not say who holds them. So every worker that receives a stub takes its own lease,
    and the owner knows the holders of a module.

    A lease is not sent, neither with a stub nor in the answer to the worker that created the module. If it got lost, as
    when another argument cannot be pickled, or the answer comes after its timeout, torch would wait for it for ever.
    Tickets are sent instead, and the receiver takes a lease with its ticket. For a stub on its way, the owner holds the
    module until the stub arrives, or for `ON_THE_WAY`. For an answer, it knows the receiver, and so holds the module as
    if the receiver had its lease already. A receiver that gives up cancels the creation.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import torch.distributed.rpc as rpc

from ... import _torch, chores
from ..._torch import PyRRef
from ...locks import new_lock
from . import holders

ON_THE_WAY: Final = 300.0
"""Seconds for which an owner holds a module for a stub that was sent and has not arrived."""

_lock = new_lock()  # leases begin on RPC threads, and end on the sweeper's
_leased: dict[int, _Leased] = {}


class _Leased:
    """A module that lives as long as its leases. `end` removes it."""

    def __init__(self, end: Callable[[int], None]) -> None:
        self.end = end
        self.holders: dict[int, int] = {}  # for each lease's number: the id of the worker that holds it
        self.answered: dict[str, int] = {}  # for the ticket of an answer: the number of the lease that it stands for
        self.on_the_way: dict[str, float] = {}  # for each sent stub's ticket: the time when it expires
        self.arrived: deque[str] = deque(maxlen=1024)

    @property
    def held(self) -> bool:
        """Says whether a worker, or a stub on its way, holds the module."""
        return bool(self.holders or self.on_the_way)


def start(handle: int, end: Callable[[int], None], holder: int, ticket: str) -> None:
    """Holds a module for who created it, and calls `end(handle)` when the last lease of the module has ended.

    Args:
        holder: the id of the worker that created it.
        ticket: the ticket with which that worker takes its lease.
    """
    leased = _Leased(end)
    number = next(holders.numbers)
    leased.holders[number], leased.answered[ticket] = holder, number
    with _lock:
        _leased[handle] = leased
    chores.regularly(watch)
    holders.meet(holder)


def remove(handle: int) -> None:
    """Forgets the leases of a module that was removed."""
    with _lock:
        _leased.pop(handle, None)


def count_holders(handles: Iterable[int]) -> int:
    """Counts the workers that hold a lease of the module that `handles` lead to."""
    with _lock:
        return len({holder for handle in handles if handle in _leased for holder in _leased[handle].holders.values()})


class Lease:
    """Exists on the owner as long as a stub on the holder has an RRef to it.

    Args:
        holder: the id of the holder's worker.
        ticket: the ticket with which the answer or the stub was sent to the holder.
    """

    def __init__(self, handle: int, holder: int, ticket: str) -> None:
        self._handle = handle
        self._number = next(holders.numbers)
        with _lock:
            leased = _leased.get(handle)
            if leased is not None:
                leased.holders[self._number] = holder
                if ticket in leased.answered:
                    leased.holders.pop(leased.answered.pop(ticket), None)
                elif leased.on_the_way.pop(ticket, None) is None:
                    leased.arrived.append(ticket)  # the stub arrived before `hold_here` was called
        holders.meet(holder)

    def __del__(self) -> None:
        if _end_all is not None:  # the interpreter may have cleared this module, at its end
            chores.soon(partial(_end_all, [(self._handle, self._number)]))


def _end_all(leases: list[tuple[int, int]]) -> None:
    """Ends leases, by handle and number, and removes the modules that nobody holds any more."""
    ended = []
    with _lock:
        for handle, number in leases:
            leased = _leased.get(handle)
            if leased is not None and leased.holders.pop(number, None) is not None and not leased.held:
                ended.append((handle, _leased.pop(handle)))
    for handle, leased in ended:
        leased.end(handle)


def _expire(now: float) -> None:
    """Ends the tickets of stubs that did not arrive in time."""
    ended = []
    with _lock:
        for handle, leased in list(_leased.items()):
            late = [ticket for ticket, until in leased.on_the_way.items() if until <= now]
            for ticket in late:
                del leased.on_the_way[ticket]
            if late and not leased.held:
                ended.append((handle, _leased.pop(handle)))
    for handle, leased in ended:
        leased.end(handle)


def _leases() -> dict[int, list[tuple[int, int]]]:
    """Lists all leases, by the holder, as (handle, number)."""
    found: dict[int, list[tuple[int, int]]] = {}
    with _lock:
        for handle, leased in _leased.items():
            for number, holder in leased.holders.items():
                found.setdefault(holder, []).append((handle, number))
    return found


# -- stubs on their way


def ask_to_hold(worker: str, handle: int, lease: PyRRef[Any]) -> str:
    """Asks the owner to hold a module for a stub that is being sent. Returns the stub's ticket. Does not wait."""
    ticket = secrets.token_hex(8)
    with _torch.without_inference():
        held = rpc.rpc_async(worker, hold_here, (handle, ticket), timeout=0)
    _torch.keep_until_done(held, lease)  # the owner then holds the module for the ticket
    return ticket


def take(worker: str, handle: int, ticket: str) -> PyRRef[Any]:
    """Takes a lease with a ticket that was sent to this worker. Does not wait."""
    holders.give_signs(worker)
    with _torch.without_inference():
        lease: PyRRef[Any] = rpc.remote(worker, Lease, args=(handle, rpc.get_worker_info().id, ticket), timeout=0)
    _torch.keep_in_forks(lease)
    return lease


def hold_here(handle: int, ticket: str) -> None:
    """Holds a module on its owner until the stub with `ticket` arrives, or `ON_THE_WAY` has passed."""
    with _lock:
        leased = _leased.get(handle)
        if leased is not None and ticket not in leased.arrived:
            leased.on_the_way[ticket] = time.monotonic() + ON_THE_WAY


# -- holders that die


def watch() -> None:
    """Ends the leases of holders that are lost: see holders.py."""
    _expire(time.monotonic())
    _end_all(holders.find_lost(_leases()))
