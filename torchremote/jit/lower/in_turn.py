"""Lowers the unit that has calls wait for their turn, and how these are started: forked, or in a strand.

An owner compiles it when it hosts a module whose calls run in turn: see lower/hosting.py, Note [What runs calls].

Note [Strands]
    Without the native part, the process has one thread for forks, which is a queue for all its modules: see
    runtime/turns.py, Note [Calls in turn]. One slow module then holds up all others.

    With it, each module has a strand (native/strand.cpp): a queue without a thread. Whoever brings a call to a strand
    that is idle runs it at once, in the same thread. What is queued runs in threads that all strands share
    (native/threads.cpp), and more of these start while slow calls keep them. All that a call forks is queued in its
    strand, and so is what follows after a wait. So what is written for the one thread holds for a strand. Modules that
    share a part share their strand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..read.model import RESERVED_PREFIX, Interface, Method
from ..runtime import definitions
from . import ir
from .convert import walk_tensors
from .hosting import HOSTED_HERE, ITS_MODULE, begin_run, lower_host, lower_init
from .names import Names
from .plan import KEEP, plan_tensors
from .source_names import SourceNames
from .units import QUEUE_PARAMETERS, run_scope, scope_of, unit

TURNS: Final = {"turns": "Turns"}
"""The first parameter of a function that is started in turn: the order of the calls."""

_ITS_TURNS: Final = f"{RESERVED_PREFIX}_its_turns"
"""The field with that order: see lower/hosting.py."""


@dataclass(frozen=True)
class Starting:
    """The way in which the functions of a unit are started. `native`: in the strand of the module."""

    scope: str  # of the unit
    native: bool

    def start(
        self,
        function: str,
        turns: ir.Expression,
        flags: ir.Expression,
        arguments: tuple[ir.Expression, ...],
        returns: str,
    ) -> ir.Expression:
        """Returns the expression that starts a function, and gives the Future of its result.

        Args:
            flags: of the call.
            returns: the type of the result.
        """
        if not self.native:
            return ir.Call(ir.FORK, (ir.Name(function), *arguments))
        like = ir.annotated(f"List[{returns}]", ir.Empty("[]"))
        may_run_here = ir.negated(_has_device_map(flags))
        first = (ir.Attribute(turns, "strand"), ir.Literal(f"{self.scope}.{function}"), like, may_run_here)
        return ir.Call(ir.native("in_strand"), (*first, *arguments))


def lower_in_turn(interface: Interface, source_names: SourceNames, native: bool) -> ir.Unit:
    """Lowers the unit. Its function `host_in_turn` puts a module into the table.

    Args:
        native: whether calls run in strands of the native part: see Note [Strands].
    """
    starting = Starting(f"{scope_of(interface)}.in_turn", native)
    parts: list[ir.Definition] = [*definitions("current")]
    parts += (_lower_function(message, source_names) for message in interface.messages)
    parts.append(_lower_class(interface, source_names, starting))
    parts.append(lower_host_in_turn("host_in_turn", (), "InTurn"))
    return unit(interface, "in_turn", "Has calls wait for their turn.", *parts)


def lower_host_in_turn(name: str, parameters: tuple[ir.Parameter, ...], cls: str, *given: ir.Expression) -> ir.Function:
    """Lowers a function that puts a module into the table, whose calls a `cls` runs in turn.

    Args:
        parameters, given: more parameters of the function, and what of them the class is given.
    """
    turns = ir.Name("turns")
    of_handle = ir.call("turns_of", ir.Name("table"), ir.Name("handle"), ir.Name("strand"))
    current = ir.call("current_of", turns, HOSTED_HERE, ir.Name("is_same"))
    return lower_host(
        name,
        ir.call(cls, current, turns, *given),
        turns,
        (ir.Parameter("strand", "Any"), ir.Parameter("is_same", "bool"), *parameters),
        (ir.assign(turns, of_handle),),
    )


def lower_init_in_turn(*others: tuple[ir.Parameter, str]) -> ir.Function:
    """Lowers `__init__` of a class that runs calls in turn. `others`: more of its parameters, and their fields."""
    return lower_init((ir.Parameter("turns", "Turns"), _ITS_TURNS), *others, module="Current")


def lower_start(
    message: Method,
    function: str,
    starting: Starting,
    source_names: SourceNames,
    before: tuple[ir.Expression, ...] = (),
    takes_tensors: bool = False,
) -> ir.Function:
    """Lowers the method that runs a message: it starts a function in turn, and returns its result.

    Args:
        function: the one that it starts. Its parameters are `TURNS`, the progress of many calls, `QUEUE_PARAMETERS`,
            and the packed arguments.
        before: what it is given before these.
        takes_tensors: whether it is also given a list of the call's tensors, behind these.
    """
    names, first, packed = run_scope(message, source_names)
    self, *progress, flags = ir.named(first)
    values = ir.named(packed)
    turns = ir.Attribute(self, _ITS_TURNS)
    in_turn = ir.call("as_in_turn", flags)
    given = (*before, turns, *progress, ir.Attribute(self, ITS_MODULE), in_turn, *values)
    body: list[ir.Statement] = []
    if takes_tensors:
        listed, wait, tensors = _list_and_wait(message, values, names, source_names)
        body += [*listed, ir.If(_has_device_map(flags), (wait,))]
        given = (*given, tensors)
    else:
        body += wait_for_arrival(message, flags, values, names, source_names)
    returns = source_names.wire(message.returns)
    started = starting.start(function, turns, flags, given, returns)
    body.append(ir.Return(ir.called(started, "wait")))
    return ir.Function(message.name, (*first, *packed), returns, tuple(body))


def wait_for_arrival(
    message: Method, flags: ir.Expression, packed: tuple[ir.Expression, ...], names: Names, source_names: SourceNames
) -> list[ir.Statement]:
    """Returns the statements that wait until the tensors of a call are there: see runtime/accelerator.py."""
    if not message.takes_tensors:
        return []
    listed, wait, _ = _list_and_wait(message, packed, names, source_names)
    return [ir.If(_has_device_map(flags), (*listed, wait))]


def _list_and_wait(
    message: Method, packed: tuple[ir.Expression, ...], names: Names, source_names: SourceNames
) -> tuple[list[ir.Statement], ir.Statement, ir.Name]:
    """Returns the statements that list the tensors of a call, the one that waits for these, and the list."""
    tensors = ir.Name(names.fresh("tensors"))
    listed = _list_tensors(message, packed, tensors, names, source_names)
    return listed, ir.Do(ir.call("wait_for_tensors", tensors)), tensors


def _has_device_map(flags: ir.Expression) -> ir.Expression:
    return ir.call("has_device_map", flags)


def _list_tensors(
    message: Method, packed: tuple[ir.Expression, ...], tensors: ir.Name, names: Names, source_names: SourceNames
) -> list[ir.Statement]:
    """Returns the statements that put the tensors of a call into a new list."""

    def take(tensor: ir.Expression) -> ir.Expression:
        return ir.call("listed", tensor, tensors)

    def take_any(value: ir.Expression) -> ir.Expression:
        return ir.call("listed_any", value, tensors)

    body: list[ir.Statement] = [ir.new_list(tensors, "List[Tensor]")]
    for value, argument, plan in zip(packed, message.arguments, plan_tensors(message), strict=False):  # or a batch
        if plan != KEEP:
            body += walk_tensors(value, argument.type, take, names, source_names, take_any)[0]
    return body


def run_in_turn(
    message: Method,
    first: Sequence[ir.Name],
    packed: tuple[ir.Name, ...],
    names: Names,
    source_names: SourceNames,
) -> tuple[ir.Statement, ...]:
    """Returns the statements that run a call which has its turn.

    Args:
        first: the progress of many calls, the `Current` and the flags.
        packed: the packed arguments.
    """
    *progress, current, flags = first
    hosted = ir.Name(names.fresh("hosted"))
    run = run_and_finish(message, (*progress, hosted, flags), packed, names, source_names)
    return (take_hosted(hosted, current), *run)


def take_hosted(hosted: ir.Name, current: ir.Expression) -> ir.Statement:
    """Returns the statement that finds out which module a call runs on that has its turn."""
    return ir.assign(hosted, ir.Attribute(current, "hosted"))


def run_and_finish(
    message: Method,
    first: tuple[ir.Name, ...],
    packed: tuple[ir.Name, ...],
    names: Names,
    source_names: SourceNames,
) -> tuple[ir.Statement, ...]:
    """Returns the statements that run a call, and return its result when the accelerator has done its work.

    Args:
        first: the progress of many calls, the `Hosted` and the flags.
        packed: the packed arguments.
    """
    *_, hosted, flags = first
    begun, run = begin_run(message, first, packed, names, source_names)
    result = ir.Name(names.fresh("result"))
    return (*begun, finishing(flags, hosted, (ir.assign(result, run),)), ir.Return(result))


def finishing(flags: ir.Expression, hosted: ir.Expression, body: tuple[ir.Statement, ...]) -> ir.Statement:
    """Returns the statement that ends when the accelerator has done the work of `body`."""
    return ir.With(ir.call("Finishing", flags, ir.Attribute(hosted, "device")), body)


def wait_for_turn(turns: ir.Expression, flags: ir.Expression) -> ir.Statement:
    return ir.Do(ir.call("wait_for_turn", turns, flags))


def _lower_function(message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that waits for the turn of a call, and runs it."""
    names, first, packed = run_scope(message, source_names, TURNS, QUEUE_PARAMETERS)
    turns, *others = ir.named(first)
    body = (wait_for_turn(turns, others[-1]), *run_in_turn(message, others, ir.named(packed), names, source_names))
    name, returns = source_names.in_turn[message.name], source_names.wire(message.returns)
    return ir.Function(name, (*first, *packed), returns, body)


def _lower_class(interface: Interface, source_names: SourceNames, starting: Starting) -> ir.Class:
    """Lowers the class that runs calls one after another."""
    starts = (
        lower_start(message, source_names.in_turn[message.name], starting, source_names)
        for message in interface.messages
    )
    return ir.Class("InTurn", (lower_init_in_turn(), *starts))
