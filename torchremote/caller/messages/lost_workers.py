"""Knows which workers of the group are lost: nothing is sent to them.

A group tells it (group/membership.py). Without one, no worker is known to be lost.
"""

from __future__ import annotations

from collections.abc import Callable

_lost: set[str] = set()  # by name. They stay: a stub may look for its module at any time
_when_lost: list[Callable[[str], None]] = []


def when_lost(do: Callable[[str], None]) -> None:
    """Has `do` be called with the name of each worker that is lost from now on."""
    _when_lost.append(do)


def lose_worker(name: str) -> None:
    """Notes that the worker `name` is lost."""
    _lost.add(name)
    for do in _when_lost:
        do(name)


def worker_is_back(name: str) -> None:
    """Notes that another worker has the name."""
    _lost.discard(name)


def forget_all() -> None:
    """Forgets all lost workers: this process is in another group, or in none."""
    _lost.clear()


def worker_is_lost(name: str) -> bool:
    """Says whether the worker `name` is lost, and no other one has the name."""
    return name in _lost
