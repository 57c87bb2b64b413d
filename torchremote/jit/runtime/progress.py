"""Notes which call of a batch runs: see table.py, Note [Which call failed].

The hosting unit of an interface includes this text (lower/hosting.py).
"""

from __future__ import annotations

from typing import List

from .table import PAGE_MASK, POSITION_BITS


def note_progress(progress: List[int], position: int) -> None:
    progress[(position >> POSITION_BITS) & PAGE_MASK] = position
