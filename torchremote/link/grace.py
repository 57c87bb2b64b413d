"""Keeps what was taken out for a moment, because calls may be reading it.

Both sides need it: an owner for the slots of its tables, and a caller for the links of its stubs. See
jit/runtime/table.py, Note [Reading while writing].
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from .. import chores

GRACE: Final = 10.0
"""Seconds for which it is kept. A call uses a slot, or a link, for a moment before it counts its reference. It would
crash only if the scheduler stopped it at that moment for this long, while the rest of its process runs on."""

_kept: deque[tuple[float, object]] = deque()  # each with the time until which it is kept


def keep_for_readers(what: object) -> None:
    """Keeps what calls that this process makes may be reading, as a stub's link is, for `GRACE`."""
    _kept.append((time.monotonic() + GRACE, what))
    chores.regularly(_let_go)


def _let_go() -> None:
    """Lets go of everything whose time is over."""
    # It needs no lock: only the sweeper takes out, and looks at each time first. What two threads put in at once may
    # stand in the wrong order; then one of the two is kept a little longer.
    now = time.monotonic()
    while _kept and _kept[0][0] <= now:
        _kept.popleft()
