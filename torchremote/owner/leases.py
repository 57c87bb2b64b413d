"""Who holds a module that has no name, and how its owner learns that nobody does.

Note [Leases]
    An unnamed module lives as long as a stub of it, on whatever worker. Every stub holds a lease: an RRef to a `Lease`
    of the owner's, which is never sent with a call, and which torch lets go with the last stub, be that inside a
    scripted model. torch counts references, but not whose they are; so every worker that a stub comes to takes a lease
    of its own, and the owner knows the holders of a module.

    No lease is sent with a stub either: torch waits for ever for one that gets lost, as when another argument cannot be
    pickled. A stub that is sent has a ticket, for which the owner holds the module until the stub has arrived, or for
    `ON_THE_WAY`.

Note [Holders that die]
    torch never learns that a reference died with its worker. So an owner asks every holder for a sign of life, every
    `INTERVAL`, with an operator that needs no Python there. A lost connection ends all leases of that holder: in one
    group, torch does not connect to a worker twice. A holder that does not answer in time is busy, or stopped by a
    debugger, and keeps its leases.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from .._torch import PyRRef
from ..link.failures import FAILURES, is_lost
from . import sweeper

ON_THE_WAY: Final = 300.0
"""Seconds for which a module is held for a stub that was sent and does not arrive."""

_lock = threading.Lock()  # leases come on RPC threads, and go on the sweeper's
_leased: dict[int, _Leased] = {}
_numbers = itertools.count()


class _Leased:
    def __init__(self, end: Callable[[int], None]) -> None:
        self.end = end
        self.holders: dict[int, int] = {}  # the id of the worker that holds it, by the lease's number
        self.on_the_way: dict[str, float] = {}  # until when, by the ticket of a stub that was sent
        self.arrived: deque[str] = deque(maxlen=1024)

    @property
    def held(self) -> bool:
        return bool(self.holders or self.on_the_way)


def start(handle: int, end: Callable[[int], None]) -> None:
    """Has `end(handle)` called once the last lease of the module that `handle` leads to is gone."""
    with _lock:
        _leased[handle] = _Leased(end)
    sweeper.regularly(watch)


def remove(handle: int) -> None:
    """Forgets the leases of a module that is gone already."""
    with _lock:
        _leased.pop(handle, None)


def count_holders(handles: Iterable[int]) -> int:
    """Counts the workers that hold leases of what any of `handles` leads to."""
    with _lock:
        return len({holder for handle in handles if handle in _leased for holder in _leased[handle].holders.values()})


class Lease:
    """Exists on the owner as long as a holder's stub has an RRef to it.

    Args:
        holder: the worker's id.
        ticket: of the stub's way to the holder.
    """

    def __init__(self, handle: int, holder: int, ticket: str | None = None) -> None:
        self._handle = handle
        self._number = next(_numbers)
        with _lock:
            leased = _leased.get(handle)
            if leased is not None:
                leased.holders[self._number] = holder
                if ticket is not None and leased.on_the_way.pop(ticket, None) is None:
                    leased.arrived.append(ticket)  # before the owner heard that it had been sent

    def __del__(self) -> None:
        sweeper.soon(partial(_end, self._handle, self._number))


def _end(handle: int, number: int) -> None:
    _end_all([(handle, number)])


def _end_all(leases: list[tuple[int, int]]) -> None:
    ended = []
    with _lock:
        for handle, number in leases:
            leased = _leased.get(handle)
            if leased is not None and leased.holders.pop(number, None) is not None and not leased.held:
                ended.append((handle, _leased.pop(handle)))
    for handle, leased in ended:
        leased.end(handle)


def _expire(now: float) -> None:
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


def _leases() -> list[tuple[int, int, int]]:
    """Lists each lease: handle, number and holder."""
    with _lock:
        return [
            (handle, number, whose) for handle, leased in _leased.items() for number, whose in leased.holders.items()
        ]


# -- stubs on their way


def send(worker: str, handle: int, lease: PyRRef[Any]) -> str:
    """Has the owner hold a module for a stub that is being sent; returns the stub's ticket. Waits for nothing."""
    ticket = secrets.token_hex(8)
    # Ours goes, at the earliest, when the owner holds the module for the stub that is on its way.
    rpc.rpc_async(worker, hold_here, (handle, ticket), timeout=0).then(partial(_let_go, lease))
    return ticket


def receive(worker: str, handle: int, ticket: str) -> PyRRef[Any]:
    """Takes a lease for a stub that was sent to this worker. Waits for nothing."""
    lease: PyRRef[Any] = rpc.remote(worker, Lease, args=(handle, rpc.get_worker_info().id, ticket), timeout=0)
    return lease


def hold_here(handle: int, ticket: str) -> None:
    with _lock:
        leased = _leased.get(handle)
        if leased is not None and ticket not in leased.arrived:
            leased.on_the_way[ticket] = time.monotonic() + ON_THE_WAY


def _let_go(lease: PyRRef[Any], held: object) -> None:
    pass


# -- holders that die

# A future, or None where torch would not even ask; and a number above those of all leases at that time. In the group
# that follows this one, another worker may have the same id: its leases have higher numbers.
_asked: dict[int, tuple[torch.futures.Future[Any] | None, int]] = {}


def watch() -> None:
    """See Note [Holders that die]."""
    _expire(time.monotonic())
    own = _torch.own_id()
    if own is None:  # RPC has ended, and all leases with it
        _asked.clear()
        _end_all([(handle, number) for handle, number, _ in _leases()])
        return
    holders = {holder for _, _, holder in _leases() if holder != own}
    for holder in holders:
        asked, limit = _asked.get(holder, (None, 0))
        if holder in _asked and _is_lost(asked):
            lost = [(handle, number) for handle, number, whose in _leases() if whose == holder and number < limit]
            _end_all(lost)
        if asked is None or asked.done():
            _asked[holder] = _ask(holder), next(_numbers)
    for stranger in _asked.keys() - holders:
        del _asked[stranger]


def _ask(holder: int) -> torch.futures.Future[Any] | None:
    try:
        asked: torch.futures.Future[Any] = rpc.rpc_async(holder, torch.neg, (torch.zeros(()),))
        return asked
    except FAILURES:
        return None


def _is_lost(asked: torch.futures.Future[Any] | None) -> bool:
    if asked is None:
        return _torch.rpc_running()
    if not asked.done():
        return False
    try:
        asked.value()
    except FAILURES as error:
        return is_lost(str(error)) and _torch.rpc_running()
    return False
