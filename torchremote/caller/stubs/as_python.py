"""Gives stubs and replicas what Python asks of both: the names and the signature that they show, and copies."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from ...jit import CompiledInterface
from ..calls.described import CallSignature, in_order, no_such


class AsPython:
    """Mixin of stubs and replicas. Their classes derive from it first."""

    _torchremote_compiled: CompiledInterface
    __signature__ = CallSignature()

    if TYPE_CHECKING:  # what the classes have

        def _torchremote_own(self) -> dict[str, Any]:
            """Returns the attributes that the user's code set."""

        def __copy__(self) -> Any: ...

    def __dir__(self) -> list[str]:
        # ScriptModule's own calls this one.
        return in_order(self._torchremote_compiled, torch.nn.Module.__dir__(self))  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError:
            raise no_such(self._torchremote_compiled, name) from None

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Any:
        # Another one for the same modules. They are not copied.
        copied = self.__copy__()
        memo = {} if memo is None else memo
        memo[id(self)] = copied  # an attribute may lead back here
        copied.__dict__.update(copy.deepcopy(self._torchremote_own(), memo))
        return copied

    def _replicate_for_data_parallel(self) -> Any:
        return self.__copy__()  # ScriptModule's own is no stub
