"""Who holds a module that has no name, and how its owner learns that nobody does.

Note [Leases]
    An unnamed module lives as long as a stub of it, on whatever worker. Every stub holds a lease: an RRef to a `Lease`
    of the owner's, which is never sent with a call, and which torch lets go with the last stub, be that inside a
    scripted model. torch counts references, but not whose they are; so every worker that a stub comes to takes a lease
    of its own (`renewed`), and the owner knows the holders of a module.

Note [Holders that die]
    torch never learns that a reference died with its worker. So an owner asks every holder for a sign of life, every
    `INTERVAL`, with an operator that needs no Python there. A lost connection ends all leases of that holder: torch
    does not connect to a worker twice, so it will not come back. A holder that does not answer in time is busy, or
    stopped by a debugger, and keeps its leases.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed.rpc as rpc

from . import sweeper
from .failures import FAILURES, is_lost
from .jit import _torch
from .jit._torch import PyRRef

_lock = threading.Lock()  # leases come on RPC threads, and go on the sweeper's
_lent: dict[int, _Lent] = {}
_numbers = itertools.count()


class _Lent:
    def __init__(self, end: Callable[[int], None]) -> None:
        self.end = end
        self.holders: dict[int, int] = {}  # the id of the worker that holds it, by the lease's number


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
    """What the RRefs of one holder's stubs refer to, on the owner."""

    def __init__(self, handle: int, holder: int) -> None:
        self._handle = handle
        self._number = next(_numbers)
        with _lock:
            if handle in _lent:
                _lent[handle].holders[self._number] = holder

    def __del__(self) -> None:
        sweeper.soon(partial(_end, self._handle, self._number))


def _end(handle: int, number: int) -> None:
    _end_all([(handle, number)])


def _end_all(leases: list[tuple[int, int]]) -> None:
    ended = []
    with _lock:
        for handle, number in leases:
            lent = _lent.get(handle)
            if lent is not None and lent.holders.pop(number, None) is not None and not lent.holders:
                ended.append((handle, _lent.pop(handle)))
    for handle, lent in ended:
        lent.end(handle)


def _leases() -> list[tuple[int, int, int]]:
    """Handle, number and holder of each."""
    with _lock:
        return [(handle, number, whose) for handle, lent in _lent.items() for number, whose in lent.holders.items()]


def renewed(worker: str, handle: int, sent: PyRRef[Any]) -> PyRRef[Any]:
    """This worker's own lease, in place of the one that came with a stub; nothing is waited for."""
    own: PyRRef[Any] = rpc.remote(worker, Lease, args=(handle, rpc.get_worker_info().id))
    # The sender's lease goes when this one is there, so the module is held all the time.
    _torch.creation_of(own).then(partial(_let_go, sent))
    return own


def _let_go(lease: PyRRef[Any], created: object) -> None:
    pass


# -- holders that die

_asked: dict[int, torch.futures.Future[Any] | None] = {}  # None: torch would not even ask


def watch() -> None:
    """See Note [Holders that die]; what was asked in one round is read in the next."""
    own = _torch.own_id()
    if own is None:  # RPC has ended, and all leases with it
        _asked.clear()
        _end_all([(handle, number) for handle, number, _ in _leases()])
        return
    holders = {holder for _, _, holder in _leases() if holder != own}
    for holder in holders:
        if holder not in _asked:
            _asked[holder] = _ask(holder)
        elif _answered(holder) and _is_lost(_asked.pop(holder)):
            _end_all([(handle, number) for handle, number, whose in _leases() if whose == holder])
    for stranger in _asked.keys() - holders:
        del _asked[stranger]


def _ask(holder: int) -> torch.futures.Future[Any] | None:
    try:
        asked: torch.futures.Future[Any] = rpc.rpc_async(holder, torch.neg, (torch.zeros(()),))
        return asked
    except FAILURES:
        return None


def _answered(holder: int) -> bool:
    asked = _asked[holder]
    return asked is None or asked.done()


def _is_lost(asked: torch.futures.Future[Any] | None) -> bool:
    if asked is None:
        return _torch.rpc_running()
    try:
        asked.value()
    except FAILURES as error:
        return is_lost(str(error)) and _torch.rpc_running()
    return False
