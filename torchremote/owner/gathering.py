"""Prepares modules that gather calls. How they do is in jit/runtime/gathering.py, Note [Gathering]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch

from .. import native
from ..errors import ArgumentError
from ..jit import Contract
from ..jit.lower import SourceNames, lower_gathering
from ..jit.read.model import Interface, Method
from ..jit.script.cache import COMPILING, Cache
from ..jit.script.compile import script
from ..jit.script.emit import emit

MOST: Final = 1 << 16
"""The largest `gather`."""


@dataclass(frozen=True)
class Gather:
    """Says how a module gathers calls."""

    most: int  # calls of a batch
    interface: Interface  # with the marks of its methods, as whoever hosts the module wrote it


def check_gather(gather: object, interface: Interface) -> None:
    """Raises ArgumentError if `gather`, as `create` and `serve` take it, is not possible."""
    if gather is None:
        return
    if isinstance(gather, bool) or not isinstance(gather, int) or not 2 <= gather <= MOST:
        raise ArgumentError(
            f"gather={gather!r}: the most calls that become one, an int from 2 to {MOST}; or None, to gather none"
        )
    if all(method.batched is None for method in interface.methods):
        raise ArgumentError(
            f"gather={gather}: {interface.name} has no method whose calls can become one; write "
            f"@torchremote.batched(0) above one that treats the slices of its tensors along dimension 0 one by one"
        )


_compiled: Cache[tuple[Contract, tuple[Method, ...]], Any] = Cache()


def gathering_of(gather: Gather | None, contract: Contract, module: torch.jit.ScriptModule) -> Any:
    """Makes what gathers the calls of `module` through an interface: a `Gathers` in TorchScript.

    Returns:
        None if no calls are gathered, because `gather` is None, or no batched method is in the interface.
    """
    if gather is None:
        return None
    # Another interface of the module may have some of its methods, and no marks of the caller's reach the owner.
    marked = {str(method): method for method in gather.interface.methods}
    methods = tuple(marked.get(str(method), method) for method in contract.interface.methods)
    if all(method.batched is None for method in methods):
        return None
    with COMPILING:
        make = _compiled.get((contract, methods), lambda: _compile(contract, methods))
    learns = any(parameter.requires_grad for parameter in module.parameters())
    return make(gather.most, learns)


def _compile(contract: Contract, methods: tuple[Method, ...]) -> Any:
    """Compiles the function that makes a `Gathers`."""
    interface = Interface(contract.interface.qualified_name, methods)
    unit = lower_gathering(interface, SourceNames(interface), native.available())
    return script(unit, emit(unit), around=contract.defined)["gathering"]
