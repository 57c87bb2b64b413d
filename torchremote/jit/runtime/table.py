"""Holds an owner's modules of one interface, in a table that calls read.

Each interface's table unit includes this text. There, `Runs` is that interface's own: what runs the calls of a module
(lower/hosting.py).

Note [Reading while writing]
    Calls read the table on RPC threads, without a lock, while modules come and go. Three rules make that safe.

    * Lists that calls read do not grow. A growing list would move its storage while others read it. So the table has
      all its pages from the beginning, all of them the same blank page. When a page is first needed, a new one takes
      its place: this stores one pointer. Calls do not read `retired`.
    * A slot never changes. A call reads the handle, and what runs it, from one object, so they always belong together.
      A new module gets a new slot: again, this stores one pointer.
    * A slot that is taken out outlives its readers. A reader loads the pointer first and counts its reference then. To
      free the slot in between would crash the owner. So `put_slot` keeps the old one in `retired`, and
      owner/running/tables.py empties that only after a grace period.

    owner/running/tables.py serialises all writers.

Note [The constant table]
    An endpoint's graph has the table as a constant. To make an object a constant, TorchScript freezes a module that
    holds it. The constant is a shallow copy: it shares the object's lists. So `Table` has only lists, and they are
    never exchanged. If a field were assigned, the two copies would differ, and the constant would keep the first value
    for ever.

Note [Which call failed]
    TorchScript cannot catch an exception. So the endpoint of many calls notes its progress before each call. A caller
    gives each batch a number n. The owner gets it as `batch`, which is `n << POSITION_BITS` and so has room for the
    position of a call. It stores `batch | position` in `progress[n & PAGE_MASK]`. If the batch fails, its caller asks
    for this integer (caller/calls/batches.py). If a later batch has overwritten it, the position is unknown. The
    integers have a fixed size, so a reader always sees a whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, List, Optional

import torch

from .turns import Turns

if TYPE_CHECKING:
    Runs = Any

SLOT_BITS: Final = 9
PAGE_BITS: Final = 8
SLOTS: Final = 1 << SLOT_BITS
PAGES: Final = 1 << PAGE_BITS
SLOT_MASK: Final = SLOTS - 1
PAGE_MASK: Final = PAGES - 1
INDEX_BITS: Final = SLOT_BITS + PAGE_BITS
CAPACITY: Final = 1 << INDEX_BITS
"""The most modules of one interface that a worker can host. A handle's low bits are the index, the others a token."""
POSITION_BITS: Final = 24
"""The bits of a call's position in a batch: see Note [Which call failed]."""
STALE: Final = "torchremote: stale handle "
"""The beginning of the refusal of a handle whose module is gone. link/failures.py looks for it."""
MODULE_GONE: Final = (
    ": its module is gone: it was withdrawn, or its worker was restarted; if it has a name, "
    "torchremote.reconnect(model) finds it again; else create it again"
)
"""The rest of that refusal. A scripted model shows it as it is; a stub has words of its own."""


class Slot:
    def __init__(self, handle: int, runs: List[Runs], turns: Optional[Turns]):
        self.handle = handle
        self.runs = runs  # one, or none if the slot is vacant: an Optional of an interface takes long to compile
        self.turns: Optional[Turns] = turns  # in which its calls run, or those of one that was in its place before


class Page:
    def __init__(self, vacant: Slot):
        self.slots: List[Slot] = [vacant] * SLOTS


class Table:
    def __init__(self) -> None:
        self.pages: List[Page] = []
        self.progress: List[int] = []
        self.retired: List[Slot] = []


def put_slot(table: Table, handle: int, slot: Slot) -> None:
    slots = table.pages[(handle >> SLOT_BITS) & PAGE_MASK].slots
    table.retired.append(slots[handle & SLOT_MASK])
    slots[handle & SLOT_MASK] = slot


def known_turns(table: Table, handle: int) -> Optional[Turns]:
    slot = table.pages[(handle >> SLOT_BITS) & PAGE_MASK].slots[handle & SLOT_MASK]
    if slot.handle != handle:
        return None
    return slot.turns


def put(table: Table, handle: int, runs: Runs, turns: Optional[Turns]) -> None:
    # Makes a handle lead to a module, whose calls `runs` runs. `turns` None: they may run at once.
    known = known_turns(table, handle)
    if turns is None and known is not None:
        known.is_at_once = True
    put_slot(table, handle, Slot(handle, [runs], known if turns is None else turns))


def turns_of(table: Table, handle: int, strand: Any) -> Turns:
    # A module that takes another one's place takes over the order of its calls.
    turns = known_turns(table, handle)
    if turns is None:
        return Turns(strand, None)
    if turns.is_at_once:
        turns.is_at_once = False
        turns.returned += 1
    return turns


class ModuleTable(torch.nn.Module):
    # Changes the table, as the functions do that put modules into it. Calls do not use this class.

    def __init__(self) -> None:
        super().__init__()
        self.vacant = Slot(-1, [], None)
        self.blank = Page(self.vacant)
        self.table = Table()

    def forward(self) -> Table:
        return self.table

    def lay_out(self) -> None:
        for _ in range(PAGES):
            self.table.pages.append(self.blank)
            self.table.progress.append(0)

    def open_page(self, page: int) -> None:
        self.table.pages[page] = Page(self.vacant)

    def remove(self, handle: int) -> None:
        put_slot(self.table, handle, self.vacant)

    def progress(self, batch: int) -> int:
        return self.table.progress[(batch >> POSITION_BITS) & PAGE_MASK]

    def drop_retired(self, count: int) -> int:
        # Returns how many slots are kept still.
        kept = self.table.retired[count:]
        self.table.retired.clear()
        self.table.retired.extend(kept)
        return len(kept)


def find(table: Table, handle: int) -> Runs:
    slot = table.pages[(handle >> SLOT_BITS) & PAGE_MASK].slots[handle & SLOT_MASK]
    if slot.handle != handle or len(slot.runs) == 0:
        raise RuntimeError(STALE + str(handle) + MODULE_GONE)
    return slot.runs[0]
