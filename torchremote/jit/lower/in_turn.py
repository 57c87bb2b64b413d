"""Lowers how the call of a module that runs its calls in turn is started: as a fork, or in a strand.

Note [Strands]
    Without the native part, the process has one thread for forks, which is a queue for all its modules: see
    runtime/turns.py, Note [Calls in turn]. One slow module then holds up all others.

    With it, each module has a strand (native/strand.cpp): a queue without a thread. Whoever brings a call to a strand
    that is idle runs it at once, in the same thread. All that a call forks is queued in its strand, and so is what
    follows after a wait. So what is written for the one thread holds for a strand. Modules that share a part share
    their strand.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import ir


@dataclass(frozen=True)
class Starting:
    """The way in which the functions of a unit are started. `native`: in the strand of the module."""

    scope: str  # of the unit
    native: bool

    def start(self, function: str, turns: ir.Name, arguments: tuple[ir.Expression, ...], returns: str) -> ir.Expression:
        """Returns the expression that starts a function, and gives the Future of its result.

        Args:
            returns: the type of the result.
        """
        if not self.native:
            return ir.Call(ir.FORK, (ir.Name(function), *arguments))
        like = ir.Call(ir.JIT_ANNOTATE, (ir.Name(f"List[{returns}]"), ir.Empty("[]")))
        first = (ir.Attribute(turns, "strand"), ir.Literal(f"{self.scope}.{function}"), like)
        return ir.Call(ir.native("in_strand"), (*first, *arguments))
