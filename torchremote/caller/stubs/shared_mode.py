"""Keeps the training mode of stubs as this process last knew it: all stubs of one module here have the same.

Note [Modes that are kept]
    A mode that this process set outlives the module. When stubs find another one under the name, whose mode differs,
    its owner is asked to set it before any of them leads there, so that no call runs in the wrong mode. If the module
    refuses the mode, they lead there all the same. A mode that nobody set here is the owner's affair, which keeps it
    when another module takes the place of one that stays where it is: see owner/modes.py, Note [Modes that stay].
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ... import _torch
from ...errors import NotInitializedError, StaleStubError, TorchRemoteError, WireError
from ...jit.export import MODE_NAMES
from ...link.route import Route
from ...link.timeouts import timeout_of
from ...link.words import first_line
from ...locks import new_lock
from ...owner import module_state
from ..messages.asking import ask_later

SHARED = "_torchremote_mode"
"""The attribute in which a stub keeps the mode that it shares."""

_SHORTEST: Final = 0.01  # seconds for an answer

MODULE_LOST: Final = (WireError, StaleStubError, NotInitializedError)
"""Errors of a question for a mode that say that the module is lost. With others, the module refuses."""

_log = logging.getLogger("torchremote")


class _Mode:
    """The training mode of one remote module, and the stubs here that show it."""

    def __init__(self, training: bool, key: tuple[str, int]) -> None:
        self.training = training
        self.wanted: bool | None = None  # what this process set last
        self.noted = -math.inf  # when it did, as `time.monotonic` has it
        self.keys = [key]  # in `_modes`: links of scripted models may have handles that others have left
        self.stubs: weakref.WeakSet[Any] = weakref.WeakSet()

    def show(self, training: bool) -> None:
        self.training = training
        for stub in self.stubs:
            _torch.set_attribute(stub, "training", training)


_lock = new_lock()
_modes: weakref.WeakValueDictionary[tuple[str, int], _Mode] = weakref.WeakValueDictionary()


def share_mode(stub: Any, worker: str, handle: int, training: bool) -> None:
    """Gives a stub the mode that is known here of its module, or else `training`. It leaves the mode that it had."""
    with _lock:
        mode = _modes.setdefault((worker, handle), _Mode(training, (worker, handle)))
        before: _Mode | None = stub.__dict__.get(SHARED)
        if before is not None and before is not mode:
            before.stubs.discard(stub)
        stub.__dict__[SHARED] = mode
        mode.stubs.add(stub)
        _torch.set_attribute(stub, "training", mode.training)


def note_mode(worker: str, handle: int, training: bool) -> None:
    """Notes that this process set a module to a mode, in all its stubs here."""
    with _lock:
        mode = _modes.get((worker, handle))
        if mode is not None:
            mode.wanted, mode.noted = training, time.monotonic()
            mode.show(training)


def show_answered(worker: str, handle: int, training: bool, asked: float) -> None:
    """Shows the mode that an owner has just answered, in all stubs of the module here.

    Args:
        asked: when the owner was asked. A mode that this process set since then is newer.
    """
    with _lock:
        mode = _modes.get((worker, handle))
        if mode is not None and mode.noted < asked:
            mode.show(training)


def has_set_mode(stub: Any) -> bool:
    """Says whether this process set the mode of a stub's module, through any stub of it."""
    mode: _Mode = stub.__dict__[SHARED]
    return mode.wanted is not None


def follow_mode(before: int, found: Route) -> None:
    """Has the stubs of a module show the mode of the one that was found again.

    Args:
        before: the handle that the stubs had.
    """
    with _lock:
        mode, known = _modes.get((found.worker, before)), _modes.get((found.worker, found.handle))
        if mode is None or mode is known:  # another stub of the module has done this
            return
        if known is None:
            known = mode
            known.keys.append((found.worker, found.handle))
        else:  # there are stubs already that found the module under the new handle
            known.wanted = mode.wanted if known.wanted is None else known.wanted
            known.keys += mode.keys
            for stub in mode.stubs:
                stub.__dict__[SHARED] = known
                known.stubs.add(stub)
        _modes.update(dict.fromkeys(known.keys, known))
        known.show(found.training)


def keep_mode(before: int, found: Route, where: str, until: float, then: Callable[[Route | Exception], None]) -> None:
    """Has a module that was found again get the mode that this process had set: see Note [Modes that are kept].

    Does not wait for the owner.

    Args:
        before: the handle that its stubs have.
        where: the beginning of messages, as in "Encoder on ps".
        until: when to stop waiting for the owner, as `time.monotonic` has it; may be infinite.
        then: is called, in some thread, with the route to follow; or with why it cannot be followed now.
    """
    mode = _mode_to_set(before, found)
    if mode is None:
        then(found)
        return

    def answered(answer: Any) -> None:
        try:
            answer.wait()
        except MODULE_LOST as error:
            then(error)
        except TorchRemoteError as error:
            _log.warning(
                "torchremote: the %s mode that was set here is refused: %s", MODE_NAMES[mode], first_line(error)
            )
            then(found)
        except Exception as error:
            then(error)
        else:
            then(replace(found, training=mode))

    timeout = timeout_of(max(until - time.monotonic(), _SHORTEST))
    try:
        answer = ask_later(found.worker, where, module_state.train_here, found.handle, mode, timeout=timeout)
    except Exception as error:
        then(error)
    else:
        _torch.when_done(answer, answered)


def _mode_to_set(before: int, found: Route) -> bool | None:
    """Returns the mode that this process set, and the module that was found does not have. None: there is none."""
    with _lock:
        mode, known = _modes.get((found.worker, before)), _modes.get((found.worker, found.handle))
        if mode is None or mode is known or mode.wanted == found.training:
            return None
        return mode.wanted if known is None or known.wanted is None else None
