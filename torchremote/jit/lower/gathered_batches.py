"""Lowers the batches of the gathering unit: which calls fit in one, how it is found or opened, and how it runs.

See runtime/gathering.py, Note [Gathering].
"""

from __future__ import annotations

from collections.abc import Sequence

from ..read.model import Interface, Method
from . import ir
from .convert import next_of, walk_tensors
from .copies import copy_containers, has_plain_containers
from .hosting import run_of
from .in_turn import TURNS, finishing, take_hosted
from .joining import call_type, lower_alike, split_result
from .names import Names
from .source_names import SourceNames
from .units import QUEUE_PARAMETERS, RUN_PARAMETERS, begin_message, crossing


def lower_group(method: Method, source_names: SourceNames) -> ir.Class:
    """Lowers the class of a batch with its first call, and with the Future of its results."""
    self = ir.Name("self")
    results = f"List[Future[{source_names.wire(method.many.returns)}]]"
    body = (
        ir.AssignAttribute(self, "batch", ir.Name("batch")),
        ir.AssignAttribute(self, "first", ir.Name("first")),
        ir.AssignAttribute(self, "running", ir.Empty("[]"), results),
    )
    given = (ir.Parameter("batch", "Batch"), ir.Parameter("first", source_names.declared(call_type(method))))
    init = ir.Function("__init__", (ir.Parameter("self"), *given), None, body)
    return ir.Class(source_names.group[method.name], (init,))


def lower_groups(gathered: Sequence[Method], source_names: SourceNames) -> ir.Class:
    """Lowers the class of a module's open batches, by method."""
    self = ir.Name("self")
    body: list[ir.Statement] = [
        ir.AssignAttribute(self, "most", ir.Name("most")),
        ir.AssignAttribute(self, "learns", ir.Name("learns")),
    ]
    for method in gathered:
        kind = f"List[{source_names.group[method.name]}]"
        body.append(ir.AssignAttribute(self, _opened(method), ir.Empty("[]"), kind))
        # TorchScript makes one constant, for all objects, of a list that nothing changes here.
        body.append(ir.Do(ir.called(ir.Attribute(self, _opened(method)), "clear")))
    parameters = (ir.Parameter("self"), ir.Parameter("most", "int"), ir.Parameter("learns", "bool"))
    return ir.Class("Groups", (ir.Function("__init__", parameters, None, tuple(body)),))


def _opened(method: Method) -> str:
    """Returns the field with the open batches of a method."""
    return f"of_{method.name}"


def lower_batches(interface: Interface, method: Method, source_names: SourceNames) -> tuple[ir.Function, ...]:
    """Lowers the functions for the batches of a method. The last one finds a batch for a call."""
    assert method.batched is not None
    return (
        lower_alike(method, source_names),
        _lower_gathered(method, source_names),
        _lower_batch(interface, method, method.batched, source_names),
        _lower_find(method, method.batched, source_names),
    )


def _lower_gathered(method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that runs the one call of a batch. Its name in a traceback says that it was such a call."""
    names = source_names.scope()
    kinds = {name: ir.Parameter(names.fresh(name), kind) for name, kind in RUN_PARAMETERS.items()}
    message = ir.Name(names.fresh("message"))
    parameters = crossing(method, source_names, names)
    given = ir.named(kinds.values())
    values = ir.named(parameters)
    return ir.Function(
        source_names.gathered[method.name],
        (*kinds.values(), *parameters),
        source_names.wire(method.returns),
        (begin_message(message), ir.Return(run_of(method, (*given, message, *values), source_names))),
        placed=True,  # link/failures.py looks for its name in tracebacks
    )


def _lower_batch(interface: Interface, method: Method, dim: int, source_names: SourceNames) -> ir.Function:
    """Lowers the function that closes a batch and runs it. It returns a result for each call."""
    names = source_names.scope()
    kinds = {"groups": "Groups", "group": source_names.group[method.name], "current": "Current"}
    groups, group, current = first = ir.variables(names, *kinds)
    opened, batch, hosted, call, message, results = ir.variables(
        names, "opened", "batch", "hosted", "call", "message", "results"
    )
    ran: tuple[ir.Expression, ...] = (hosted, ir.Attribute(batch, "flags"))
    values = tuple(ir.Item(call, position) for position in range(len(method.arguments)))
    alone = ir.append(results, run_of(method, (*ran, message, *values), source_names))
    joined = _lower_joined(interface, method, dim, ran, (batch, call, results), names, source_names)
    run = ir.If(is_alone(batch), (alone,), tuple(joined))
    is_oldest = ir.Operation(
        "==", ir.Attribute(ir.Attribute(ir.Item(opened, 0), "batch"), "number"), ir.Attribute(batch, "number")
    )
    returns = source_names.wire(method.many.returns)
    return ir.Function(
        source_names.batch[method.name],
        ir.typed(first, kinds),
        returns,
        (
            ir.assign(opened, ir.Attribute(groups, _opened(method))),
            ir.assign(batch, ir.Attribute(group, "batch")),
            ir.Do(ir.call("begin_work", ir.Attribute(batch, "turns"), ir.Attribute(batch, "number"))),
            take_hosted(hosted, current),
            # It is closed. If too many were open, it has been since.
            ir.If(ir.Operation("!=", ir.length(opened), ir.Literal(0)), (ir.If(is_oldest, (_drop_first(opened),)),)),
            ir.assign(call, ir.Attribute(group, "first")),
            ir.new_list(results, returns),
            begin_message(message),
            ir.With(batch, (finishing(ir.Attribute(batch, "flags"), hosted, (run,)),)),
            ir.Return(results),
        ),
    )


def _lower_joined(
    interface: Interface,
    method: Method,
    dim: int,
    ran: tuple[ir.Expression, ...],
    of_batch: tuple[ir.Name, ir.Name, ir.Name],
    names: Names,
    source_names: SourceNames,
) -> list[ir.Statement]:
    """Lowers what runs several calls as one: with the first call's arguments, but all calls' tensors.

    Args:
        ran: what the function that runs a call is given beside its arguments.
        of_batch: the batch, its first call, and the list for the results.
    """
    batch, call, results = of_batch
    tensors, rows, result = ir.variables(names, "tensors", "rows", "result")
    where = ir.Literal(f"{interface.name}.{method.name}")
    body: list[ir.Statement] = [
        ir.assign(tensors, ir.called(batch, "joined", ir.Literal(dim))),
        ir.assign(rows, ir.called(batch, "rows", ir.Literal(dim))),
    ]
    values: list[ir.Expression] = []
    for position, argument in enumerate(method.arguments):
        putting, value = walk_tensors(ir.Item(call, position), argument.type, next_of(tensors), names, source_names)
        body += putting
        if method.idempotent and has_plain_containers(argument.type):  # the first call may run again with its own
            copying, copied = copy_containers(value, argument.type, names, source_names)
            body += copying
            values.append(copied)
        else:
            values.append(value)
    run = ir.call(source_names.gathered[method.name], *ran, *values)
    given = (rows, ir.Literal(dim), where)
    return [
        *body,
        ir.assign(result, run),
        ir.AssignAttribute(batch, "ran", ir.Literal(True)),
        *split_result(method, "sliced", result, given, results, names, source_names),
    ]


def _lower_find(method: Method, dim: int, source_names: SourceNames) -> ir.Function:
    """Lowers the function that finds an open batch for a call, or opens one and queues its run."""
    names = source_names.scope()
    kinds = {"groups": "Groups", **TURNS, **QUEUE_PARAMETERS}
    kinds |= {"call": source_names.declared(call_type(method)), "tensors": "List[Tensor]"}
    groups, *others = first = ir.variables(names, *kinds)
    turns, current, flags, call, tensors = others
    group, opened, batch = ir.variables(names, "group", "opened", "batch")
    limits = (tensors, ir.Literal(dim), ir.Attribute(groups, "most"), turns, flags)
    takes = ir.called(ir.Attribute(group, "batch"), "takes", *limits)
    alike = ir.call(source_names.alike[method.name], ir.Attribute(group, "first"), call)
    run = ir.Call(ir.FORK, (ir.Name(source_names.batch[method.name]), groups, group, current))
    body: list[ir.Statement] = [
        ir.assign(opened, ir.Attribute(groups, _opened(method))),
        ir.For((group.id,), opened, (ir.If(takes, (ir.If(alike, (ir.Return(group),)),)),)),
        ir.assign(batch, ir.call("open_batch", turns, flags, ir.Literal(method.idempotent))),
        ir.assign(group, ir.call(source_names.group[method.name], batch, call)),
        ir.append(ir.Attribute(group, "running"), run),
    ]
    if method.idempotent:
        body.append(ir.append(ir.Attribute(batch, "watching"), ir.Call(ir.FORK, (ir.Name("watch"), batch))))
    body += [
        ir.append(opened, group),
        ir.If(ir.call("are_too_many", ir.length(opened)), (_drop_first(opened),)),
        ir.Return(group),
    ]
    return ir.Function(
        source_names.find[method.name], ir.typed(first, kinds), source_names.group[method.name], tuple(body)
    )


def is_alone(batch: ir.Expression) -> ir.Expression:
    """Returns the test whether a batch has one call."""
    return ir.Operation("==", ir.length(ir.Attribute(batch, "calls")), ir.Literal(1))


def _drop_first(values: ir.Expression) -> ir.Statement:
    return ir.Do(ir.called(values, "pop", ir.Literal(0)))
