"""Holds an owner's modules of one interface, in a table that calls read.

Each interface's table unit includes this text. There, `ModuleInterface` is that interface's own.

Note [Reading while writing]
    Calls read the table on RPC threads, without a lock, while modules come and go. Three rules make that safe.

    * Lists do not grow. A growing list would move its storage while others read it. So the table has all its pages from
      the beginning, all of them the same blank page. When a page is first needed, a new one takes its place: this
      stores one pointer.
    * A slot never changes. A call reads handle, module and device from one object, so they always belong together. A
      new module gets a new slot: again, this stores one pointer.
    * A slot that is taken out outlives its readers. A reader loads the pointer first and counts its reference then. To
      free the slot in between would crash the owner. So `put` keeps the old slot in `retired`, and owner/tables.py
      empties that only after a grace period.

    owner/tables.py serialises all writers.

Note [The constant table]
    An endpoint's graph has the table as a constant. To make an object a constant, TorchScript freezes a module that
    holds it. The constant is a shallow copy: it shares the object's lists. So `Table` has only lists, and they are
    never exchanged. If a field were assigned, the two copies would differ, and the constant would keep the first value
    for ever. Therefore `ModuleTable` holds the retired slots.

Note [Which call failed]
    TorchScript cannot catch an exception. So the endpoint of many calls notes its progress before each call: it stores
    `batch << 24 | position` in `progress[batch % 256]`. If the batch fails, its caller asks for this number
    (caller/batches.py). If a later batch has overwritten it, the position is unknown. The integers have a fixed size,
    so a reader always sees a whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, List, Optional, Tuple

import torch

from .turns import Turns

if TYPE_CHECKING:
    ModuleInterface = torch.nn.Module
    Gathers = Any

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


class Slot:
    def __init__(
        self,
        handle: int,
        module: Optional[ModuleInterface],
        device: torch.device,
        moves: bool,
        turns: Optional[Turns],
        gathering: Optional[Gathers],
    ):
        self.handle = handle
        self.module: Optional[ModuleInterface] = module
        self.device = device
        self.moves = moves  # whether tensors move to the device, and back
        self.turns: Optional[Turns] = turns  # None: calls of the module may run at once
        self.gathering: Optional[Gathers] = gathering  # None: no calls are gathered; otherwise there are turns, too


class Page:
    def __init__(self, vacant: Slot):
        self.slots: List[Slot] = [vacant] * SLOTS


class Table:
    def __init__(self) -> None:
        self.pages: List[Page] = []
        self.progress: List[int] = []


class ModuleTable(torch.nn.Module):
    # Changes the table. Calls do not use this class.

    def __init__(self) -> None:
        super().__init__()
        self.vacant = Slot(-1, None, torch.device("cpu"), False, None, None)
        self.blank = Page(self.vacant)
        self.table = Table()
        self.retired: Any = torch.jit.Attribute([], List[Slot])

    def forward(self) -> Table:
        return self.table

    def lay_out(self) -> None:
        for _ in range(PAGES):
            self.table.pages.append(self.blank)
            self.table.progress.append(0)

    def open_page(self, page: int) -> None:
        self.table.pages[page] = Page(self.vacant)

    def insert(
        self, handle: int, module: ModuleInterface, device: torch.device, moves: bool, in_turn: bool, strand: Any
    ) -> None:
        turns: Optional[Turns] = None
        if in_turn:
            turns = self.turns_of(handle, strand)
        self.put(handle, Slot(handle, module, device, moves, turns, None))

    def gather(
        self, handle: int, module: ModuleInterface, device: torch.device, moves: bool, by: Gathers, strand: Any
    ) -> None:
        # Inserts a module whose calls are gathered.
        self.put(handle, Slot(handle, module, device, moves, self.turns_of(handle, strand), by))

    def turns_of(self, handle: int, strand: Any) -> Turns:
        # A module that takes another one's place takes over the order of its calls.
        old = self.table.pages[(handle >> SLOT_BITS) & PAGE_MASK].slots[handle & SLOT_MASK]
        turns = old.turns
        if turns is None or old.handle != handle:
            return Turns(strand)
        return turns

    def remove(self, handle: int) -> None:
        self.put(handle, self.vacant)

    def put(self, handle: int, slot: Slot) -> None:
        slots = self.table.pages[(handle >> SLOT_BITS) & PAGE_MASK].slots
        self.retired.append(slots[handle & SLOT_MASK])
        slots[handle & SLOT_MASK] = slot

    def progress(self, batch: int) -> int:
        return self.table.progress[(batch >> POSITION_BITS) & PAGE_MASK]

    def drop_retired(self, count: int) -> None:
        self.retired = self.retired[count:]


def find(table: Table, handle: int) -> Tuple[ModuleInterface, Slot]:
    slot = table.pages[(handle >> SLOT_BITS) & PAGE_MASK].slots[handle & SLOT_MASK]
    module = slot.module
    if module is None or slot.handle != handle:
        raise RuntimeError(STALE + str(handle))
    return module, slot


def note_progress(progress: List[int], position: int) -> None:
    progress[(position >> POSITION_BITS) & PAGE_MASK] = position
