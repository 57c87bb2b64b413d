"""The owner's table of hosted modules, in TorchScript: the same for every interface but for the type `Hosted`.

Note [Reading while writing]
    Calls read the table on RPC threads without a lock while modules come and go. Three rules make that safe.

    * Lists do not grow. A list's storage would move under its readers, so pages are laid out blank before there are
      any, and a page is exchanged for a real one when it is first needed: a store of one pointer.
    * A slot never changes. Handle, module and device are read from one object, so a reader sees the whole of one
      module or the whole of another; a new module means a new slot, again a store of one pointer.
    * A slot that is taken out outlives its readers. Between loading the pointer and counting its reference, a reader
      holds something that nobody knows of; freeing the slot there crashes the owner. So `put` moves it to a
      graveyard, and shelves.py empties that only after a grace period.

    What writes the table is serialised by shelves.py.

Note [The constant table]
    An endpoint has its table as a constant in its graph. TorchScript makes an object a constant by freezing a module
    that holds it, and what becomes the constant is a shallow copy: it shares the lists. `Table` therefore has
    nothing but lists that are never exchanged; a field that is assigned would differ between the two copies, and
    keep its first value alive for ever. (Nor would TorchScript freeze it.) The graveyard is in `Host` for that reason.

Note [Which call failed]
    TorchScript cannot catch, so the endpoint of many calls notes how far it is before each of them, and a caller whose
    batch failed asks (batches.py). A mark is a batch's number, shifted by 24; with a position added, it goes to the
    place of 256 that its low bits name, where a later batch may overwrite it: then, the number is another one, and
    which call failed is not known. Integers of one size are stored at once, so nothing is torn.
"""

from __future__ import annotations

from typing import Final

from ..lower.ir import Class, Function, Given, Module

SLOT_BITS: Final = 9
PAGE_BITS: Final = 8
INDEX_BITS: Final = SLOT_BITS + PAGE_BITS
CAPACITY: Final = 1 << INDEX_BITS
"""Modules of one interface that a worker can host. A handle's low bits are the index, the others its token."""
POSITION_BITS: Final = 24
"""Of a mark: see Note [Which call failed]."""

DEFINITIONS: Final = (
    Given(
        "Slot",
        Class,
        '''
class Slot:
    """One hosted module. Never changed: another module means another slot."""

    def __init__(self, handle: int, module: Optional[Hosted], device: torch.device):
        self.handle = handle
        self.module: Optional[Hosted] = module
        self.device = device
''',
    ),
    Given(
        "Page",
        Class,
        """
class Page:
    def __init__(self, vacant: Slot):
        self.slots: List[Slot] = [vacant] * 512
""",
    ),
    Given(
        "Table",
        Class,
        """
class Table:
    def __init__(self):
        self.pages: List[Page] = []
        self.progress: List[int] = []
""",
    ),
    Given(
        "Host",
        Module,
        '''
class Host(torch.nn.Module):
    """What may change the table; calls do not come through here."""

    def __init__(self):
        super().__init__()
        self.vacant = Slot(-1, None, torch.device("cpu"))
        self.blank = Page(self.vacant)
        self.table = Table()
        self.graveyard = []

    def forward(self) -> Table:
        return self.table

    def lay_out(self) -> None:
        for _ in range(256):
            self.table.pages.append(self.blank)
            self.table.progress.append(0)

    def open_page(self, page: int) -> None:
        self.table.pages[page] = Page(self.vacant)

    def put(self, handle: int, module: Optional[Hosted], device: torch.device) -> None:
        slots = self.table.pages[(handle >> 9) & 255].slots
        self.graveyard.append(slots[handle & 511])
        slots[handle & 511] = self.vacant if module is None else Slot(handle, module, device)

    def progress(self, mark: int) -> int:
        return self.table.progress[(mark >> 24) & 255]

    def bury(self, count: int) -> None:
        self.graveyard = self.graveyard[count:]
Host.__annotations__["graveyard"] = List[Slot]
''',
    ),
    Given(
        "find",
        Function,
        """
def find(table: Table, handle: int) -> Tuple[Hosted, torch.device]:
    slot = table.pages[(handle >> 9) & 255].slots[handle & 511]
    module = slot.module
    if module is None or slot.handle != handle:
        raise RuntimeError("torchremote: stale handle " + str(handle))
    return module, slot.device
""",
    ),
    Given(
        "note",
        Function,
        """
def note(table: Table, position: int) -> None:
    table.progress[(position >> 24) & 255] = position
""",
    ),
)
