"""Identifiers that collide with nothing.

A generated function has the user's argument names and its own locals in one scope, over the globals that generated
text uses. `Names` holds one such scope: what it gives out is new in the scope and hides none of the globals, so an
argument may be called `torch`, `self` or `result_0`.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from typing import Final

from ..runtime import definitions

# What generated text refers to by name, also as TorchScript saves it, with `range` in every loop. The opening lines of
# each unit, the runtime files and every interface's own units bind those that are not Python's.
GLOBALS: Final = frozenset(
    "math torch rpc Any Tensor Dict Future List Optional Protocol RRef Tuple Union "
    "RuntimeError super isinstance len range zip float int bool str complex "
    "ModuleInterface Link Attachable detach attach Disconnected Connected Local Remote Stub".split()
).union(definition.name for file in ("table", "tensors", "batches", "any", "link") for definition in definitions(file))
# Names of arguments that TorchScript replaces by others when it saves a model.
REPLACED: Final = frozenset("_ inf nan ops CONSTANTS fork uninitialized getattr unchecked_cast __torch__ aten".split())
# Names that it takes for something else when it reads a saved model.
_MISREAD: Final = frozenset("annotate awaitable".split())

TAKEN: Final = GLOBALS | REPLACED | _MISREAD | frozenset(keyword.kwlist)
"""What no identifier of any scope may be."""


class Names:
    """Gives out the identifiers of one scope.

    Args:
        taken: names that are in it already.
        around: names around it, that are not to be hidden.
    """

    def __init__(self, taken: Iterable[str] = (), around: frozenset[str] = TAKEN) -> None:
        self._around = around
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """Claims `wanted` itself when it is free, otherwise with the first free number."""
        return self.numbered(wanted) if self._is_taken(wanted) else self._claim(wanted)

    def numbered(self, stem: str) -> str:
        """Claims the first of `stem_0`, `stem_1`, ... that is free."""
        number = 0
        while self._is_taken(f"{stem}_{number}"):
            number += 1
        return self._claim(f"{stem}_{number}")

    def _is_taken(self, name: str) -> bool:
        return name in self._taken or name in self._around

    def _claim(self, name: str) -> str:
        self._taken.add(name)
        return name
