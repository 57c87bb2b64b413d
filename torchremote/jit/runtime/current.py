"""Says which module the calls in turn of a handle run on.

The units of an interface that run calls in turn include this text (lower/in_turn.py). There, `Hosted` is that
interface's own.

Note [Modules that move]
    A module moves by being copied, and its queued calls must not change what is copied already: that would be lost. So
    a queued call has a `Current`, and takes the module from there when it has its turn. To move the module, Python
    waits for a turn, too, copies it, and puts the copy into the `Current`. A batch takes the module when it begins, so
    all its calls run on one.

    Another module that takes the place of this one has a `Current` of its own. Calls that were queued before run on the
    old module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .turns import Turns

if TYPE_CHECKING:
    Hosted = Any


class Current:
    def __init__(self, hosted: Hosted):
        self.hosted = hosted


def current_of(turns: Turns, hosted: Hosted, is_same: bool) -> Current:
    # `is_same`: the module is the one that was there, or a copy of it. Then only a turn may call this.
    known = turns.current
    if is_same and isinstance(known, Current):
        known.hosted = hosted
        return known
    current = Current(hosted)
    turns.current = current
    return current
