"""Sets the training modes of hosted modules.

Note [Modes that stay]
    A mode that a caller set belongs to what is served, and not to the module that is there now. A module that takes the
    place of another one under its name gets it before the first call. If it refuses the mode, that is logged, and it
    takes the place all the same. A mode that nobody set is the module's own.

    Setting a mode is no part of an exchange: it may ask other workers, for the stubs that a module holds. So both sides
    look again when they are done. Who sets a mode notes it, and looks whether the module is still there; who exchanges
    a module looks whether the noted mode is still the one that it had set.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import torch

from ..errors import TorchRemoteError
from ..link.words import first_line
from . import modules
from .modules import Entry
from .part_modes import check_mode, set_mode
from .running.hosting import Hosting

_log = logging.getLogger("torchremote")


def is_training(module: torch.jit.ScriptModule) -> bool:
    """Returns a module's training mode. A frozen one has none, and was frozen in evaluation."""
    return bool(getattr(module, "training", False))


def set_modes(entries: Sequence[Entry], mode: bool) -> None:
    """Sets the training mode of hosted modules.

    Raises:
        ArgumentError: one was exported in the other mode alone. Then none was set, unless it came meanwhile.
    """
    for entry in entries:
        check_mode(entry.hosting.module, mode)  # no call changes what it reads, so it needs no turn
    for entry in entries:
        while not modules.between_calls(entry, partial(_set_mode, entry, mode)):
            pass  # another module took its place


def _set_mode(entry: Entry, mode: bool, hosting: Hosting) -> bool:
    """Sets the mode of what is hosted. Returns False if that has gone since."""
    check_mode(hosting.module, mode)
    set_mode(hosting.module, mode)
    entry.mode = mode
    return entry.hosting is hosting


def give_mode(entry: Entry, module: torch.jit.ScriptModule) -> bool | None:
    """Gives the mode that was set in `entry` to a module that is to take its place. Returns that mode."""
    mode = entry.mode
    if mode is not None and is_training(module) != mode:
        try:
            check_mode(module, mode)
            modules.beside_calls(module, partial(set_mode, module, mode))
        except TorchRemoteError as error:
            _log.warning(
                "torchremote: %r: the new module refuses the mode that was set: %s", entry.name, first_line(error)
            )
    return mode


def set_if_changed(entry: Entry, given: bool | None) -> None:
    """Sets the mode that was set in `entry` while a module with the mode `given` took the place of another one."""
    mode = entry.mode
    if mode is not None and mode is not given:
        set_modes([entry], mode)
