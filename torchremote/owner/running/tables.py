"""Keeps the books of the tables that calls read (jit/runtime/table.py): free slots, and retired ones.

RPC threads and the sweeper both come here. So every function is called under `LOCK`, unless it says that it takes LOCK.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ... import chores
from ...errors import CapacityError
from ...jit import Contract
from ...jit.runtime.table import CAPACITY, INDEX_BITS, SLOT_BITS
from ...link import grace
from ...locks import new_lock
from .hosting import Put

LOCK = new_lock()
"""Guards the tables, and modules.py's `_by_handle`, `_by_part`, `by_name` and entries."""
_TOKEN_BITS: Final = 63 - INDEX_BITS
_tables: dict[tuple[str, str], OwnerTable] = {}


def table_for(contract: Contract) -> OwnerTable:
    """Returns the table of an interface's modules. Makes it if there is none."""
    return _tables.setdefault((contract.interface.name, contract.interface.text), OwnerTable(contract))


def _drop_retired() -> None:
    """Drops the slots whose grace period is over. Takes LOCK."""
    with LOCK:
        now = time.monotonic()
        for table in _tables.values():
            table.drop_retired(now)


@dataclass(eq=False)
class OwnerTable:
    """The owner's books of one interface's table: the free indices, and the times at which slots were retired."""

    contract: Contract
    pages: int = 0
    unused: int = 0  # the first index that was never used
    free: list[int] = field(default_factory=list)  # a heap, so that low pages fill up first
    retired: deque[float] = field(default_factory=deque)  # the time at which each retired slot was taken out

    def insert(self, put: Put) -> int:
        """Puts a module into a free slot. Returns the new handle. Or raises and changes nothing, as the others here."""
        chores.regularly(_drop_retired)  # no thread can be started, perhaps; then nothing may have been done
        index = self._next_index()
        if index >> SLOT_BITS == self.pages:
            self.contract.table.open_page(self.pages)
            self.pages += 1
        handle = _next_token() << INDEX_BITS | index
        try:
            self.replace(handle, put)
        except BaseException:
            heapq.heappush(self.free, index)
            raise
        return handle

    def replace(self, handle: int, put: Put) -> None:
        """Makes `handle` lead to a module, for calls that begin from now on. Running calls keep the old module."""
        chores.regularly(_drop_retired)
        put(handle)
        self._retire()

    def remove(self, handle: int) -> None:
        """Refuses calls of `handle` from now on, and frees its slot."""
        chores.regularly(_drop_retired)
        self.contract.table.remove(handle)
        self._retire()
        heapq.heappush(self.free, handle & (CAPACITY - 1))

    def drop_retired(self, now: float) -> None:
        """Drops the slots that were retired at least `grace.GRACE` ago."""
        count = 0
        while self.retired and self.retired[0] + grace.GRACE <= now:
            self.retired.popleft()
            count += 1
        if count:
            kept = self.contract.table.drop_retired(count)
            self.retired.extend([now] * (kept - len(self.retired)))  # those that Ctrl-C kept from being noted

    def _retire(self) -> None:
        """Notes that a slot was retired just now, because another one took its place."""
        self.retired.append(time.monotonic())

    def _next_index(self) -> int:
        """Claims a free index, or raises CapacityError."""
        if self.free:
            return heapq.heappop(self.free)
        if self.unused == CAPACITY:
            name = self.contract.interface.name
            raise CapacityError(
                f"{name}: this worker hosts {CAPACITY} modules of it already; withdraw some, or use another worker"
            )
        self.unused += 1
        return self.unused - 1


# -- handles

_serial = 0
_key = secrets.token_bytes(16)


def _draw_key() -> None:
    global _key
    _key = secrets.token_bytes(16)


# Two processes that were forked from one would give the same handles, and a stub of one could call the other's module.
os.register_at_fork(after_in_child=_draw_key)


def _next_token() -> int:
    """Makes a token that never repeats and cannot be guessed: a serial number, permuted with a secret key.

    Random numbers could repeat. With plain serial numbers, one handle would give away all others.
    """
    global _serial
    _serial += 1
    half = _TOKEN_BITS // 2
    left, right = _serial >> half, _serial & ((1 << half) - 1)
    for turn in range(4):  # a Feistel network can always be undone, so no two serial numbers give one token
        digest = hashlib.blake2b(bytes([turn]) + right.to_bytes(4, "little"), key=_key, digest_size=4).digest()
        left, right = right, left ^ (int.from_bytes(digest, "little") & ((1 << half) - 1))
    return left << half | right
