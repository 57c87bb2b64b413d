"""The Python side of the tables that calls read (jit/table.py): which slots are free, and when an old one may go.

What does not say otherwise is called under `LOCK`: RPC threads and the sweeper meet here.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import torch

from ..errors import CapacityError
from ..jit import Contract
from ..jit.runtime.table import CAPACITY, INDEX_BITS, SLOT_BITS
from . import sweeper

GRACE: Final = 10.0
"""Seconds for which a withdrawn module's slot is kept. A call holds a slot uncounted for nanoseconds; it would have to
be stopped there, by the scheduler, for this long, while the rest of its process runs on."""

LOCK = threading.Lock()
_TOKEN_BITS: Final = 63 - INDEX_BITS
_shelves: dict[tuple[str, str], Shelf] = {}
_shelf_of: dict[int, Shelf] = {}


def shelf_for(contract: Contract) -> Shelf:
    return _shelves.setdefault((contract.interface.name, contract.interface.text), Shelf(contract))


def shelf_of(handle: int) -> Shelf:
    return _shelf_of[handle]


def _bury() -> None:
    with LOCK:
        now = time.monotonic()
        for shelf in _shelves.values():
            shelf.bury(now)
        while _kept and _kept[0][0] <= now:
            _kept.popleft()


_kept: deque[tuple[float, object]] = deque()


def keep_for_readers(what: object) -> None:
    """Keeps something that calls may be reading for `GRACE`; takes LOCK."""
    with LOCK:
        _kept.append((time.monotonic() + GRACE, what))
    sweeper.regularly(_bury)


@dataclass
class Shelf:
    """The Python side of one interface's table: which indices are free, and what waits in the graveyard."""

    contract: Contract
    pages: int = 0
    unused: int = 0  # the first index that was never used
    free: list[int] = field(default_factory=list)  # a heap, so that low pages fill up first
    burials: deque[float] = field(default_factory=deque)  # when each slot in the graveyard got there

    def put(self, module: torch.jit.ScriptModule, device: torch.device) -> int:
        index = self._next_index()
        if index >> SLOT_BITS == self.pages:
            self.contract.host.open_page(self.pages)
            self.pages += 1
        handle = _next_token() << INDEX_BITS | index
        try:
            self.contract.host.put(handle, module, device)
        except RuntimeError:
            heapq.heappush(self.free, index)
            raise
        self._note_burial()
        _shelf_of[handle] = self
        return handle

    def exchange(self, handle: int, module: torch.jit.ScriptModule, device: torch.device) -> None:
        """Calls of `handle` that begin from now on get `module`; those that run keep what they have."""
        self.contract.host.put(handle, module, device)
        self._note_burial()

    def take(self, handle: int) -> None:
        del _shelf_of[handle]
        self.contract.host.put(handle, None, torch.device("cpu"))
        self._note_burial()
        heapq.heappush(self.free, handle & (CAPACITY - 1))

    def bury(self, now: float) -> None:
        count = 0
        while self.burials and self.burials[0] + GRACE <= now:
            self.burials.popleft()
            count += 1
        if count:
            self.contract.host.bury(count)

    def _next_index(self) -> int:
        if self.free:
            return heapq.heappop(self.free)
        if self.unused == CAPACITY:
            name = self.contract.interface.name
            raise CapacityError(
                f"{name}: this worker hosts {CAPACITY} modules of it already; withdraw some, or use another worker"
            )
        self.unused += 1
        return self.unused - 1

    def _note_burial(self) -> None:
        self.burials.append(time.monotonic())
        sweeper.regularly(_bury)


# -- handles

_serial = 0
_key = secrets.token_bytes(16)


def _next_token() -> int:
    """A token that is not given again and cannot be guessed: a serial number through a keyed permutation.

    Random numbers alone would repeat one day; a serial number alone would tell every other handle.
    """
    global _serial
    _serial += 1
    half = _TOKEN_BITS // 2
    left, right = _serial >> half, _serial & ((1 << half) - 1)
    for turn in range(4):  # a Feistel network: whatever the rounds compute, it can be undone, so no two serials meet
        digest = hashlib.blake2b(bytes([turn]) + right.to_bytes(4, "little"), key=_key, digest_size=4).digest()
        left, right = right, left ^ (int.from_bytes(digest, "little") & ((1 << half) - 1))
    return left << half | right
