"""Says how a module gathers calls. How it does that is in jit/runtime/gathering.py, Note [Gathering]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import ArgumentError
from ..jit import Contract
from ..jit.read.model import Interface, Method

MOST: Final = 1 << 16
"""The largest `gather`."""


@dataclass(frozen=True)
class Gather:
    """Says how a module gathers calls."""

    most: int  # calls of a batch
    interface: Interface  # with the marks of its methods, as whoever hosts the module wrote it


@dataclass(frozen=True)
class Ways:
    """Says how the calls of a module run."""

    in_turn: bool = False  # one after another: see turns.py
    gather: Gather | None = None  # how they are gathered, if they are
    moves: bool | None = None  # whether tensors move to the device and back; None: they do on an accelerator

    @property
    def takes_turns(self) -> bool:
        """Says whether calls run one after another, or wait to be gathered."""
        return self.in_turn or self.gather is not None


AT_ONCE: Final = Ways()


def check_gather(gather: object, interface: Interface) -> None:
    """Raises ArgumentError if `gather`, as `create` and `serve` take it, is not possible."""
    if gather is None:
        return
    if isinstance(gather, bool) or not isinstance(gather, int) or not 2 <= gather <= MOST:
        raise ArgumentError(
            f"gather={gather!r}: an int from 2 to {MOST} is wanted, the most calls that become one, or None"
        )
    if all(method.batched is None for method in interface.methods):
        raise ArgumentError(
            f"gather={gather}: {interface.name} has no method whose calls can become one; write "
            f"@torchremote.batched(0) above one that treats the slices of its tensors along dimension 0 one by one"
        )


def gathered_methods(gather: Gather | None, contract: Contract) -> tuple[Method, ...] | None:
    """Returns an interface's methods, with the marks of whoever hosts the module.

    Returns:
        None if no calls are gathered, because `gather` is None, or no batched method is in the interface.
    """
    if gather is None:
        return None
    # Another interface of the module may have some of its methods, and no marks of the caller's reach the owner.
    marked = {str(method): method for method in gather.interface.methods}
    methods = tuple(marked.get(str(method), method) for method in contract.interface.methods)
    return None if all(method.batched is None for method in methods) else methods
