"""Says whether the traceback of an error is worth showing beside an error of ours that quotes it."""

from __future__ import annotations

import sys
import traceback
from typing import Final

_NOBODYS: Final = frozenset({"torch", "torchremote", *sys.stdlib_module_names})


def shown_cause(error: BaseException) -> BaseException | None:
    """Returns `error` as the cause of one that quotes it. None: no line of the user's is in its traceback."""
    return error if has_users_line(error) else None


def has_users_line(error: BaseException) -> bool:
    """Says whether code that is neither torch's, nor Python's, nor ours is in the traceback of an error."""
    modules = [frame.f_globals.get("__name__", "torch") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(module.partition(".")[0] not in _NOBODYS for module in modules)
