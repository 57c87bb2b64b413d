"""Lowers the unit that gathers the calls of a module's batched methods: see runtime/gathering.py, Note [Gathering].

Which methods are batched and idempotent is the caller's own affair, and not in the canonical text. So this unit is none
of the contract's. An owner compiles it when it first hosts such a module: see lower/hosting.py,
Note [What runs calls].
"""

from __future__ import annotations

import hashlib
from typing import Final

from ..read.model import RESERVED_PREFIX, Interface, Method
from ..runtime import definitions
from . import ir
from .gathered_batches import is_alone, lower_batches, lower_group, lower_groups
from .in_turn import (
    TURNS,
    Starting,
    lower_host_in_turn,
    lower_init_in_turn,
    lower_start,
    run_in_turn,
    wait_for_turn,
)
from .source_names import SourceNames
from .units import QUEUE_PARAMETERS, SELF, run_scope, scope_of, unit

_GROUPS: Final = f"{RESERVED_PREFIX}_its_groups"
"""The field with the open batches: see lower/hosting.py."""

_FIRST: Final = {"groups": "Groups", **TURNS}
"""The first parameters of a function that gathers: the open batches, and the order of the calls."""


def lower_gathering(interface: Interface, source_names: SourceNames, native: bool) -> ir.Unit:
    """Lowers the unit for an interface with its marks: which methods are batched, and which idempotent.

    Its function `host_gathering` puts a module into the table.

    Args:
        native: whether calls are gathered in strands of the native part: see in_turn.py, Note [Strands].
    """
    gathered = [method for method in interface.methods if method.batched is not None]
    marks = "\n".join(f"{method.name} {method.batched} {method.idempotent}" for method in gathered)
    part = f"gathering_{hashlib.blake2b(marks.encode(), digest_size=8).hexdigest()}"
    starting = Starting(f"{scope_of(interface)}.{part}", native)
    parts: list[ir.Definition] = [*definitions("current"), *definitions("gathering")]
    parts += (lower_group(method, source_names) for method in gathered)
    parts.append(lower_groups(gathered, source_names))
    for method in gathered:
        parts += lower_batches(interface, method, source_names)
    for message in interface.messages:
        lower = _lower_queue_of_batched if message in gathered else _lower_queue
        parts += (_lower_by_itself(message, source_names), lower(message, source_names))
    parts.append(_lower_class(interface, source_names, starting))
    limits = (ir.Parameter("most", "int"), ir.Parameter("learns", "bool"))
    groups = ir.call("Groups", *ir.named(limits))
    parts.append(lower_host_in_turn("host_gathering", limits, "Gathering", groups))
    return unit(interface, part, "Gathers the calls of batched methods.", *parts)


def _lower_queue_of_batched(method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers what the call of a batched method does when it has its turn: it joins a batch, and takes its result."""
    names, first, packed = run_scope(method, source_names, _FIRST, QUEUE_PARAMETERS)
    groups, turns, current, flags = ir.named(first)
    values = ir.named(packed)
    tensors, group, batch, place, results = ir.variables(names, "tensors", "group", "batch", "place", "results")
    by_itself, given = ir.Name(source_names.by_itself[method.name]), (current, flags, *values)
    gradients = (ir.Attribute(groups, "learns"), ir.Literal(method.carries_gradients))
    alone = (ir.Return(_forked(by_itself, turns, _take_place(turns, flags), *given)),)
    find = ir.call(source_names.find[method.name], *ir.named(first), ir.TupleOf(values), tensors)
    body: list[ir.Statement] = [
        wait_for_turn(turns, flags),
        ir.If(ir.negated(ir.call("can_gather", flags, tensors, *gradients)), alone),
        ir.assign(group, find),
        ir.assign(batch, ir.Attribute(group, "batch")),
        ir.Do(ir.call("set_last", turns, flags, ir.Attribute(batch, "number"))),
        ir.assign(place, ir.called(batch, "add", tensors)),
    ]
    if method.idempotent:
        number = ir.Attribute(batch, "number")
        again = (
            ir.Do(ir.call("begin_call", turns, number)),
            ir.Return(ir.Call(by_itself, (turns, ir.Literal(0), *given))),
        )
        body += [
            ir.Do(ir.called(ir.Item(ir.Attribute(batch, "watching"), 0), "wait")),
            ir.If(ir.negated(ir.Attribute(batch, "ran")), (ir.If(ir.negated(is_alone(batch)), again),)),
        ]
    body += [
        ir.assign(results, ir.called(ir.Item(ir.Attribute(group, "running"), 0), "wait")),
        ir.Return(ir.Item(results, place)),
    ]
    returns = source_names.wire(method.returns)
    parameters = (*first, *packed, ir.Parameter(tensors.id, "List[Tensor]"))
    return ir.Function(source_names.queue[method.name], parameters, returns, tuple(body))


def _lower_queue(message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers what a call that is never gathered does when it has its turn: it queues its work."""
    _, first, packed = run_scope(message, source_names, _FIRST, QUEUE_PARAMETERS)
    _, turns, *others, flags = ir.named(first)
    by_itself = ir.Name(source_names.by_itself[message.name])
    body = (
        wait_for_turn(turns, flags),
        ir.Return(_forked(by_itself, turns, _take_place(turns, flags), *others, flags, *ir.named(packed))),
    )
    name, returns = source_names.queue[message.name], source_names.wire(message.returns)
    return ir.Function(name, (*first, *packed), returns, body)


def _lower_by_itself(message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs a call which is in no batch, or runs again. It is given the number of its work."""
    names, first, packed = run_scope(message, source_names, TURNS, QUEUE_PARAMETERS)
    turns, *others = ir.named(first)
    number = ir.Name(names.fresh("number"))
    begin = ir.Do(ir.call("begin_work", turns, number))
    body = (begin, *run_in_turn(message, others, ir.named(packed), names, source_names))
    name, returns = source_names.by_itself[message.name], source_names.wire(message.returns)
    return ir.Function(name, (first[0], ir.Parameter(number.id, "int"), *first[1:], *packed), returns, body)


def _take_place(turns: ir.Expression, flags: ir.Expression) -> ir.Expression:
    return ir.call("take_place", turns, flags)


def _lower_class(interface: Interface, source_names: SourceNames, starting: Starting) -> ir.Class:
    """Lowers the class that gathers calls: see lower/hosting.py, Note [What runs calls]."""
    groups = ir.Attribute(ir.Name(SELF.name), _GROUPS)
    starts = (
        lower_start(
            message,
            source_names.queue[message.name],
            starting,
            source_names,
            (groups,),
            takes_tensors=message.batched is not None,
        )
        for message in interface.messages
    )
    return ir.Class("Gathering", (lower_init_in_turn((ir.Parameter("groups", "Groups"), _GROUPS)), *starts))


def _forked(function: ir.Expression, *arguments: ir.Expression) -> ir.Expression:
    """Returns the expression that runs a function behind all work that is queued, and waits for its result."""
    return ir.called(ir.Call(ir.FORK, (function, *arguments)), "wait")
