"""Keeps what holds RRefs from being destroyed in forked processes.

Note [RRefs in forked processes]
    Whoever drops the last reference to another worker's RRef takes locks of torch, to tell the owner. A child of
    `os.fork` has a copy of these locks, and none of the threads that held them at the fork, so it would wait for ever.
    It has no RPC with which to tell anything, either: the reference is the parent's. So the child destroys nothing
    that holds an RRef. The Python objects through which such references are reached are known by weak references, so
    that the parent destroys them as ever. Those that live at the fork get a strong reference in the child, which is
    never given back, not even when the interpreter ends.

    They are looked up twice. During the fork the parent holds them, too, because Python itself destroys things in the
    child before it calls anybody: what other threads kept in a `threading.local`, or what an earlier hook lets go. In
    the child, those are added that were made since. There is one thread then, so nothing can be destroyed, or made,
    during the look. In the parent, other threads may drop or make holders meanwhile, but a set is copied into a list
    under the GIL, in one step.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any


class _Reference(weakref.ref[Any]):
    """Equals itself alone. Other weak references ask the two objects whether they are equal."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


_holders: set[_Reference] = set()
_forking: list[list[Any]] = []  # those that live at a fork, while it goes on


def keep_in_forks(holder: Any) -> None:
    """Has forked children never destroy an object that holds RRefs. This process destroys it as ever."""
    # Its callback is in C: in Python, Ctrl-C could end it, and nobody would hear of that.
    _holders.add(_Reference(holder, _holders.discard))


def _living() -> list[Any]:
    """Returns all holders that live."""
    return [holder for reference in list(_holders) if (holder := reference()) is not None]


def _before_fork() -> None:
    _forking.append(_living())


def _after_fork() -> None:
    kept = [*_forking, _living()]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    _forking.clear()


# In the parent, a function in Python could be ended by Ctrl-C before it has let go. If two threads fork at once, the
# first lets go for both, and the second's child keeps what lives then.
os.register_at_fork(before=_before_fork, after_in_parent=_forking.clear, after_in_child=_after_fork)
