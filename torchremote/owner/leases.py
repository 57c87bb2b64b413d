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
from collections.abc import Callable
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
_lent: dict[int, _Lent] = {}
_numbers = itertools.count()


class _Lent:
    def __init__(self, end: Callable[[int], None]) -> None:
        self.end = end
        self.holders: dict[int, int] = {}  # the id of the worker that holds it, by the lease's number
        self.on_the_way: dict[str, float] = {}  # until when, by the ticket of a stub that was sent
        self.arrived: deque[str] = deque(maxlen=1024)

    @property
    def held(self) -> bool:
        return bool(self.holders or self.on_the_way)


def lend(handle: int, end: Callable[[int], None]) -> None:
    """Has `end(handle)` called once the last lease of what is hosted under `handle` is gone."""
    with _lock:
        _lent[handle] = _Lent(end)
    sweeper.regularly(watch)


def lend_alike(handle: int, other: int) -> None:
    """`handle` is another one of the module that `other` is a handle of: it has the same leases, if it has any."""
    with _lock:
        if other in _lent:
            _lent[handle] = _lent[other]


def forget(handle: int) -> None:
    """What was hosted under `handle` is gone already."""
    with _lock:
        _lent.pop(handle, None)


class Lease:
    """What the RRefs of one holder's stubs refer to, on the owner. `ticket`: of the stub's way to the holder."""

    def __init__(self, handle: int, holder: int, ticket: str | None = None) -> None:
        self._handle = handle
        self._number = next(_numbers)
        with _lock:
            lent = _lent.get(handle)
            if lent is not None:
                lent.holders[self._number] = holder
                if ticket is not None and lent.on_the_way.pop(ticket, None) is None:
                    lent.arrived.append(ticket)  # before the owner heard that it had been sent

    def __del__(self) -> None:
        sweeper.soon(partial(_end, self._handle, self._number))


def _end(handle: int, number: int) -> None:
    _end_all([(handle, number)])


def _end_all(leases: list[tuple[int, int]]) -> None:
    ended = []
    with _lock:
        for handle, number in leases:
            lent = _lent.get(handle)
            if lent is not None and lent.holders.pop(number, None) is not None and not lent.held:
                ended.append((handle, _lent.pop(handle)))
    for handle, lent in ended:
        lent.end(handle)


def _expire(now: float) -> None:
    ended = []
    with _lock:
        for handle, lent in list(_lent.items()):
            late = [ticket for ticket, until in lent.on_the_way.items() if until <= now]
            for ticket in late:
                del lent.on_the_way[ticket]
            if late and not lent.held:
                ended.append((handle, _lent.pop(handle)))
    for handle, lent in ended:
        lent.end(handle)


def _leases() -> list[tuple[int, int, int]]:
    """Handle, number and holder of each."""
    with _lock:
        return [(handle, number, whose) for handle, lent in _lent.items() for number, whose in lent.holders.items()]


# -- stubs on their way


def send(worker: str, handle: int, lease: PyRRef[Any]) -> str:
    """Has the owner hold a module for a stub that is being sent; its ticket. Nothing is waited for."""
    ticket = secrets.token_hex(8)
    # Ours goes, at the earliest, when the owner holds the module for the stub that is on its way.
    rpc.rpc_async(worker, hold_here, (handle, ticket), timeout=0).then(partial(_let_go, lease))
    return ticket


def receive(worker: str, handle: int, ticket: str) -> PyRRef[Any]:
    """This worker's lease for a stub that was sent to it. Nothing is waited for."""
    lease: PyRRef[Any] = rpc.remote(worker, Lease, args=(handle, rpc.get_worker_info().id, ticket), timeout=0)
    return lease


def hold_here(handle: int, ticket: str) -> None:
    with _lock:
        lent = _lent.get(handle)
        if lent is not None and ticket not in lent.arrived:
            lent.on_the_way[ticket] = time.monotonic() + ON_THE_WAY


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
