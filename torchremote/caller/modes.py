"""Keeps the training mode of stubs as this process last knew it: all stubs of one module here have the same."""

from __future__ import annotations

import weakref
from typing import Any

from .. import _torch
from ..locks import new_lock

SHARED = "_torchremote_mode"
"""The attribute in which a stub keeps the mode that it shares."""


class _Mode:
    """The training mode of one remote module, and the stubs here that show it."""

    def __init__(self, training: bool) -> None:
        self.training = training
        self.stubs: weakref.WeakSet[Any] = weakref.WeakSet()


_lock = new_lock()
_modes: weakref.WeakValueDictionary[tuple[str, int], _Mode] = weakref.WeakValueDictionary()


def share_mode(stub: Any, worker: str, handle: int, training: bool) -> None:
    """Gives a new stub of a module the mode that is known here, or else `training`."""
    with _lock:
        mode = _modes.setdefault((worker, handle), _Mode(training))
        stub.__dict__[SHARED] = mode
        mode.stubs.add(stub)
        _torch.set_attribute(stub, "training", mode.training)


def follow_mode(worker: str, before: int, handle: int, training: bool) -> None:
    """Has the stubs of a module that is found again, under another handle, show its mode."""
    with _lock:
        mode = _modes.get((worker, before))
        if mode is None:
            return
        shared = _modes.setdefault((worker, handle), mode)
        if shared is not mode:  # there are stubs already that found the module under the new handle
            for stub in mode.stubs:
                stub.__dict__[SHARED] = shared
                shared.stubs.add(stub)
        note_mode(worker, handle, training)


def note_mode(worker: str, handle: int, training: bool) -> None:
    """Notes that a module was set to a mode, in all its stubs here."""
    with _lock:
        mode = _modes.get((worker, handle))
        if mode is not None:
            mode.training = training
            for stub in mode.stubs:
                _torch.set_attribute(stub, "training", training)
