"""Says how a module gathers calls. How it does that is in jit/runtime/gathering.py, Note [Gathering]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch

from ...errors import ArgumentError
from ...jit import Contract
from ...jit.export import Limits, limits_of_module
from ...jit.read.model import Interface, Method
from ...jit.read.shown import repr_of

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
            f"gather={repr_of(gather)}: an int from 2 to {MOST} is wanted, the most calls that become one, or None"
        )
    if all(method.batched is None for method in interface.methods):
        raise ArgumentError(
            f"gather={gather}: {interface.name} has no method whose calls can become one; write "
            f"@torchremote.batched(0) above one that treats the slices of its tensors along dimension 0 one by one"
        )


def gathered_methods(
    gather: Gather | None, contract: Contract, module: torch.jit.ScriptModule
) -> tuple[Method, ...] | None:
    """Returns an interface's methods, with the marks of whoever hosts the module.

    A method of an exported module that may refuse joined calls is marked idempotent if it can run again, and else not
    batched: see jit/export/joined.py, Note [Joined calls that no graph is right for].

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
    limits = limits_of_module(module)
    return tuple(_within(limits, method) for method in methods)  # if none is batched, the calls still take turns


def _within(limits: Mapping[str, Limits], method: Method) -> Method:
    """Returns a method with other marks if its module may refuse joined calls that it does not refuse one by one."""
    found = limits.get(method.name)
    if found is None or method.batched not in found.dimensions:
        return method
    return replace(method, batched=None) if found.changes else replace(method, idempotent=True)
