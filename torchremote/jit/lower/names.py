"""Gives out identifiers that collide with nothing.

A generated function has the user's argument names and its own locals in one scope, inside the globals of generated
text. `Names` is one such scope. A name that it gives out is new in the scope and hides no global, so an argument may be
called `torch`, `self` or `result_0`.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from typing import Final

from ..runtime import FILES, names_in

# The names to which generated text refers, also in the form that TorchScript saves, which has `range` in every loop.
# Those that Python does not have are bound by the opening lines of a unit, the runtime files, or an interface's units.
GLOBALS: Final = frozenset(
    "math torch rpc Any Tensor Dict Future List Optional Protocol RRef Tuple Union "
    "RuntimeError super isinstance len range zip float int bool str complex list max min abs round "
    "ModuleInterface Runs Hosted AtOnce Forked InTurn Groups Gathering host host_forked host_in_turn host_gathering "
    "Link Attachable detach attach Disconnected Connected Local Remote Stub CountedModule Flagging".split()
).union(name for file in FILES for name in names_in(file))
# Argument names that TorchScript replaces when it saves a model.
REPLACED: Final = frozenset("_ inf nan ops CONSTANTS fork uninitialized getattr unchecked_cast __torch__ aten".split())
# Argument names that TorchScript takes for something else when it loads a model.
_MISREAD: Final = frozenset("annotate awaitable".split())

TAKEN: Final = GLOBALS | REPLACED | _MISREAD | frozenset(keyword.kwlist)
"""The names that no scope gives out."""


class Names:
    """Gives out the identifiers of one scope.

    Args:
        taken: names that are in the scope already.
        around: names outside the scope that must not be hidden.
    """

    def __init__(self, taken: Iterable[str] = (), around: frozenset[str] = TAKEN) -> None:
        self._around = around
        self._taken = frozenset(taken)
        self.claimed: set[str] = set()
        """The names that were given out."""

    def fresh(self, wanted: str) -> str:
        """Claims `wanted` if it is free, and otherwise `wanted` with the first free number."""
        return self.numbered(wanted) if self._is_taken(wanted) else self._claim(wanted)

    def numbered(self, stem: str) -> str:
        """Claims the first of `stem_0`, `stem_1`, ... that is free."""
        number = 0
        while self._is_taken(f"{stem}_{number}"):
            number += 1
        return self._claim(f"{stem}_{number}")

    def _is_taken(self, name: str) -> bool:
        return name in self._taken or name in self.claimed or name in self._around

    def _claim(self, name: str) -> str:
        self.claimed.add(name)
        return name
