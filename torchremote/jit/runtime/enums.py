"""Positions of the members of enums, as which they cross.

A process compiles this text once, for all interfaces.
"""

from __future__ import annotations


def position_in(count: int, position: int, name: str) -> int:
    if position < 0 or position >= count:
        raise RuntimeError("torchremote: no such member of " + name)
    return position
