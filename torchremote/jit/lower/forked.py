"""Lowers the unit that runs each call in a fork of its own, for modules with methods that wait.

An owner compiles it when it hosts such a module, and its calls may run at once: see lower/hosting.py,
Note [What runs calls].

Note [Methods that wait]
    `torch.no_grad()` sets the grad mode of the thread. If a method waits in it, as for a call of another owner,
    TorchScript goes on in another thread, and ends the `no_grad` there. The first thread is never set back: a thread of
    RPC would be without gradients for all that it does from then on, for any module. This happens in a `no_grad` of the
    method, and in that of a call whose caller's grad mode is off.

    TorchScript does set a thread back after what it ran for a fork. So such a call is forked, and the thread that
    brings it waits outside of any `no_grad`. Calls in turn and gathered calls are forked, or run in a strand, which
    sets the thread back, too.
"""

from __future__ import annotations

from ..read.model import Interface, Method
from . import ir
from .hosting import HOSTED_HERE, ITS_MODULE, lower_host, lower_init
from .in_turn import run_and_finish, wait_for_arrival
from .source_names import SourceNames
from .units import RUN_PARAMETERS, run_scope, unit


def lower_forked(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit. Its function `host_forked` puts a module into the table."""
    functions = (_lower_function(message, source_names) for message in interface.messages)
    starts = (_lower_start(message, source_names) for message in interface.messages)
    made = ir.call("Forked", HOSTED_HERE)
    return unit(
        interface,
        "forked",
        "Runs each call in a fork.",
        *functions,
        ir.Class("Forked", (lower_init(), *starts)),
        lower_host("host_forked", made),
    )


def _lower_function(message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that is forked. It runs a call."""
    names, first, packed = run_scope(message, source_names, {}, RUN_PARAMETERS)
    body = run_and_finish(message, ir.named(first), ir.named(packed), names, source_names)
    return ir.Function(source_names.forked[message.name], (*first, *packed), source_names.wire(message.returns), body)


def _lower_start(message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the method that runs a message: it forks the function, and returns its result."""
    names, first, packed = run_scope(message, source_names)
    self, *progress, flags = ir.named(first)
    function, values = ir.Name(source_names.forked[message.name]), ir.named(packed)
    forked = ir.Call(ir.FORK, (function, *progress, ir.Attribute(self, ITS_MODULE), flags, *values))
    result = ir.Return(ir.called(forked, "wait"))
    body = (*wait_for_arrival(message, flags, values, names, source_names), result)
    return ir.Function(message.name, (*first, *packed), source_names.wire(message.returns), body)
