"""Lowers the unit that gathers the calls of a module's batched methods: see runtime/gathering.py, Note [Gathering].

Which methods are batched and idempotent is the caller's own affair, and not in the canonical text. So this unit is none
of the contract's. An owner compiles it when it hosts a module that gathers calls. Endpoints know `Gathers` alone, which
is in the table unit.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ..read.model import RESERVED_PREFIX, Interface, Method
from ..runtime import definitions
from . import ir
from .batched import walk_tensors
from .gathered import called, is_alone, lower_batches, lower_group, lower_groups, run_of
from .in_turn import Starting
from .names import Names
from .plan import returns_tensors
from .source_names import SourceNames
from .units import PROGRESS_TYPE, RUN_PARAMETERS, SELF, begin_message, crossing, declare, scope_of, unit

_GROUPS: Final = f"{RESERVED_PREFIX}_its_groups"
"""The field of `Gathering`. The class also has methods with the names of the user's."""


HELD: Final = ir.Class(
    "Held",
    (
        ir.Function(
            "__init__",
            (SELF, ir.Parameter("module", "ModuleInterface")),
            None,
            (ir.AssignAttribute(ir.Name("self"), "module", ir.Name("module")),),
        ),
    ),
)
"""The class in which a method of `Gathers` takes a module: see Note [Compared interfaces]."""


def lower_gathers(interface: Interface, source_names: SourceNames) -> ir.Interface:
    """Lowers the interface through which endpoints have calls gathered."""
    methods = (
        declare(message.name, _scope(message, source_names)[1], source_names.wire(message.returns))
        for message in interface.messages
    )
    return ir.Interface("Gathers", f"{scope_of(interface)}.table.Gathers", tuple(methods), of_modules=False)


def lower_gathering(interface: Interface, source_names: SourceNames, native: bool = False) -> ir.Unit:
    """Lowers the unit for an interface with its marks: which methods are batched, and which idempotent.

    Its function `gathering` makes what a slot of the table has.

    Args:
        native: whether calls are gathered in strands of the native part: see in_turn.py, Note [Strands].
    """
    gathered = [method for method in interface.methods if method.batched is not None]
    marks = "\n".join(f"{method.name} {method.batched} {method.idempotent}" for method in gathered)
    part = f"gathering_{hashlib.blake2b(marks.encode(), digest_size=8).hexdigest()}"
    starting = Starting(f"{scope_of(interface)}.{part}", native)
    parts: list[ir.Definition] = [*definitions("gathering")]
    parts += (lower_group(method, source_names) for method in gathered)
    parts.append(lower_groups(gathered, source_names))
    for method in gathered:
        parts += lower_batches(interface, method, source_names)
    for message in interface.messages:
        lower = _lower_queue_of_batched if message in gathered else _lower_queue
        parts.append(lower(message, source_names))
    parts.append(_lower_class(interface, source_names, starting))
    parts.append(_GATHERING)
    return unit(interface, part, "Gathers the calls of batched methods.", *parts)


def _scope(message: Method, source_names: SourceNames) -> tuple[Names, tuple[ir.Parameter, ...]]:
    """Opens the scope of a method of `Gathers`. Returns it, and the parameters."""
    names = source_names.scope([SELF.name])
    kinds = {**_turn_parameters(message), "module": HELD.name}
    first = tuple(ir.Parameter(names.fresh(name), kind) for name, kind in kinds.items())
    return names, (*first, *crossing(message, source_names, names))


def _turn_parameters(message: Method) -> dict[str, str]:
    """Returns the names and types of what a queue is given beside the packed arguments."""
    progress = {} if message.each is None else {"progress": PROGRESS_TYPE}
    return {"turns": "Turns", **progress, **RUN_PARAMETERS}


def _lower_queue_of_batched(method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers what the call of a batched method does when it has its turn: it joins a batch, and takes its result."""
    names, first, parameters = _queue_scope(method, source_names)
    groups, turns, *placed, flags = first
    values = tuple(ir.Name(parameter.name) for parameter in parameters)
    tensors, message, group, batch, place, results = (
        ir.Name(names.fresh(name)) for name in ("tensors", "message", "group", "batch", "place", "results")
    )
    gradients = (ir.Attribute(groups, "learns"), ir.Literal(method.carries_gradients))
    alone = (
        ir.Do(ir.Call(ir.Name("take_place"), (turns, flags))),
        ir.Return(_forked(method, (*placed, flags, message), values, source_names)),
    )
    find = ir.Call(ir.Name(source_names.find[method.name]), (*first, ir.TupleOf(values), tensors))
    body: list[ir.Statement] = [
        ir.Do(ir.Call(ir.Name("wait_for_turn"), (turns, flags))),
        begin_message(message),
        ir.If(ir.Not(ir.Call(ir.Name("can_gather"), (flags, tensors, *gradients))), alone),
        ir.Assign((group.id,), find),
        ir.Assign((batch.id,), ir.Attribute(group, "batch")),
        ir.Do(ir.Call(ir.Name("set_last"), (turns, flags, ir.Attribute(batch, "number")))),
        ir.Assign((place.id,), called(batch, "add", tensors)),
    ]
    if method.idempotent:
        again = ir.Return(run_of(method, (*placed, flags, message), values, source_names))
        body += [
            ir.Do(called(ir.Item(ir.Attribute(batch, "watching"), 0), "wait")),
            ir.If(ir.Not(ir.Attribute(batch, "ran")), (ir.If(ir.Not(is_alone(batch)), (again,)),)),
        ]
    body += [
        ir.Assign((results.id,), called(ir.Item(ir.Attribute(group, "running"), 0), "wait")),
        ir.Return(ir.Item(results, place)),
    ]
    return _queue(method, source_names, first, (*parameters, ir.Parameter(tensors.id, "List[Tensor]")), body)


def _lower_queue(message: Method, source_names: SourceNames) -> ir.Function:
    """Lowers what a call that is never gathered does when it has its turn: it queues its work."""
    names, first, parameters = _queue_scope(message, source_names)
    _, turns, *given = first
    body: list[ir.Statement] = [
        ir.Do(ir.Call(ir.Name("wait_for_turn"), (turns, given[-1]))),
        ir.Do(ir.Call(ir.Name("take_place"), (turns, given[-1]))),
    ]
    if message.each is None and returns_tensors(message):
        sent = ir.Name(names.fresh("message"))
        body.append(begin_message(sent))
        given.append(sent)
    values = tuple(ir.Name(parameter.name) for parameter in parameters)
    body.append(ir.Return(_forked(message, tuple(given), values, source_names)))
    return _queue(message, source_names, first, parameters, body)


def _queue_scope(message: Method, source_names: SourceNames) -> tuple[Names, list[ir.Name], tuple[ir.Parameter, ...]]:
    """Opens the scope of a function that queues a call. Returns it, and its first parameters and the packed ones."""
    names = source_names.scope()
    first = [ir.Name(names.fresh(name)) for name in ("groups", *_turn_parameters(message))]
    return names, first, crossing(message, source_names, names)


def _queue(
    message: Method,
    source_names: SourceNames,
    first: list[ir.Name],
    parameters: tuple[ir.Parameter, ...],
    body: list[ir.Statement],
) -> ir.Function:
    """Lowers a function that queues a call."""
    kinds = ("Groups", *_turn_parameters(message).values())
    leading = (ir.Parameter(name.id, kind) for name, kind in zip(first, kinds, strict=True))
    returns = source_names.wire(message.returns)
    return ir.Function(source_names.queue[message.name], (*leading, *parameters), returns, tuple(body))


def _lower_class(interface: Interface, source_names: SourceNames, starting: Starting) -> ir.Class:
    """Lowers the class that implements `Gathers`."""
    self = ir.Name("self")
    keep = ir.AssignAttribute(self, _GROUPS, ir.Name("groups"))
    methods = [ir.Function("__init__", (SELF, ir.Parameter("groups", "Groups")), None, (keep,))]
    for message in interface.messages:
        names, parameters = _scope(message, source_names)
        values: tuple[ir.Expression, ...] = tuple(
            ir.Attribute(ir.Name(parameter.name), "module") if parameter.type == HELD.name else ir.Name(parameter.name)
            for parameter in parameters
        )
        body: list[ir.Statement] = []
        if message.batched is not None:
            tensors = ir.Name(names.fresh("tensors"))
            body += _take_tensors(message, values, tensors, names, source_names)
            values = (*values, tensors)
        queue, returns = source_names.queue[message.name], source_names.wire(message.returns)
        turns, *_ = parameters
        given: tuple[ir.Expression, ...] = (ir.Attribute(self, _GROUPS), *values)
        waits = ir.Return(called(starting.start(queue, ir.Name(turns.name), given, returns), "wait"))
        methods.append(ir.Function(message.name, (SELF, *parameters), returns, (*body, waits)))
    return ir.Class("Gathering", tuple(methods))


def _take_tensors(
    method: Method, values: tuple[ir.Expression, ...], tensors: ir.Name, names: Names, source_names: SourceNames
) -> list[ir.Statement]:
    """Returns the statements that put the tensors of a call into a list, on the thread on which they arrived."""

    def take(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("gathered"), (tensor, tensors))

    body: list[ir.Statement] = [ir.Assign((tensors.id,), ir.Empty("[]"), "List[Tensor]")]
    *_, flags = values[: len(_turn_parameters(method))]
    packed = values[len(_turn_parameters(method)) :]
    for value, argument in zip(packed, method.arguments, strict=True):
        body += walk_tensors(value, argument.type, take, names, source_names)[0]
    settle = ir.Do(ir.Call(ir.Name("settle"), (tensors,)))
    return [*body, ir.If(ir.Call(ir.Name("has_device_map"), (flags,)), (settle,))]


_GATHERING: Final = ir.Function(
    "gathering",
    (ir.Parameter("most", "int"), ir.Parameter("learns", "bool")),
    "Gathering",
    (ir.Return(ir.Call(ir.Name("Gathering"), (ir.Call(ir.Name("Groups"), (ir.Name("most"), ir.Name("learns"))),))),),
)


def _forked(
    message: Method, first: tuple[ir.Expression, ...], values: tuple[ir.Expression, ...], source_names: SourceNames
) -> ir.Expression:
    """Returns the expression that runs a call behind all work that is queued, and waits for its result."""
    run = (ir.Name(source_names.run[message.name]), ir.Literal(None), *first, *values)
    return called(ir.Call(ir.FORK, run), "wait")
