"""Lowers what joins the calls of a batched method's `<m>_many` into one, at the caller, and splits its result.

Note [Joined calls]
    Arguments and results are packed here, so they have wire types: see plan.py, Note [Wire types]. One walk takes the
    tensors out of a value, in its order. The same walk, over one of many values, puts other tensors in their places.
    So what calls have besides tensors has to be equal: `alike` says whether it is.
"""

from __future__ import annotations

from ..read.model import Interface, Method
from ..read.types import DictType, ListType, OptionalType, ScalarType, TensorType, TupleType, Type
from . import ir
from .convert import next_of, walk_tensors
from .names import Names
from .plan import KEEP, plan_arrival, wire_type
from .send import WAIT_HERE
from .source_names import SourceNames
from .units import crossing, future


def lower_joining(interface: Interface, method: Method, source_names: SourceNames) -> tuple[ir.Function, ...]:
    """Lowers `join`, which makes one call of concatenated tensors if calls are joinable, and what it uses."""
    assert method.batched is not None
    return (
        _lower_tensors(interface, method, source_names),
        lower_alike(method, source_names),
        _lower_split(interface, method, method.batched, source_names),
        _lower_join(method, method.batched, source_names),
    )


def call_type(method: Method) -> TupleType:
    """Returns the type of the packed arguments of one call."""
    return TupleType(tuple(wire_type(argument.type) for argument in method.arguments))


def _lower_tensors(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the function that takes the tensors out of a call, and checks that they can be sent."""
    names = source_names.scope()
    call, tensors = ir.variables(names, "call", "tensors")
    body: list[ir.Statement] = [ir.new_list(tensors, "List[Tensor]")]
    for position, argument in enumerate(method.arguments):
        where = ir.Literal(f"{interface.name}.{method.many.name}.{argument.name}")
        if plan_arrival(argument.type) == KEEP:
            continue

        def take(tensor: ir.Expression, where: ir.Expression = where) -> ir.Expression:
            return ir.call("taken", tensor, tensors, where)

        body += walk_tensors(ir.Item(call, position), argument.type, take, names, source_names)[0]
    parameters = (ir.Parameter(call.id, source_names.declared(call_type(method))),)
    return ir.Function(source_names.tensors[method.name], parameters, "List[Tensor]", (*body, ir.Return(tensors)))


def lower_alike(method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the test whether two calls are equal in all but their tensors."""
    names = source_names.scope()
    first, other = ir.variables(names, "first", "other")
    kind = call_type(method)
    body = (*_compare(first, other, kind, names), ir.Return(ir.Literal(True)))
    parameters = tuple(ir.Parameter(name.id, source_names.declared(kind)) for name in (first, other))
    return ir.Function(source_names.alike[method.name], parameters, "bool", body)


_NO = ir.Return(ir.Literal(False))


def _compare(first: ir.Expression, other: ir.Expression, kind: Type, names: Names) -> tuple[ir.Statement, ...]:
    """Returns the statements that return False if two packed values differ in more than tensors."""

    def named(stem: str) -> tuple[ir.Name, ir.Name]:
        return ir.Name(names.numbered(stem)), ir.Name(names.numbered(stem))

    match kind:
        case TensorType() | ScalarType("None"):
            return ()
        case ScalarType("float"):
            return (_unless(ir.call("same_float", first, other)),)
        case OptionalType(item):
            one, two = named("optional")
            absent = (ir.If(ir.is_present(two), (_NO,)),)
            present = (ir.If(ir.is_present(two), _compare(one, two, item, names) or (ir.Pass(),), (_NO,)),)
            assigned = (ir.assign(one, first), ir.assign(two, other))
            return (*assigned, ir.If(ir.is_present(one), present, absent))
        case ListType(item):
            one, two = named("item")
            inner = _compare(one, two, item, names)
            return (_same_length(first, other), *_pairs((one, two), (first, other), inner))
        case DictType(key, value):
            keys, values = named("key"), named("value")
            listed = tuple(ir.called(one, "keys") for one in (first, other))
            content = tuple(ir.called(one, "values") for one in (first, other))
            return (
                _same_length(first, other),
                *_pairs(keys, listed, _compare(*keys, key, names)),
                *_pairs(values, content, _compare(*values, value, names)),
            )
        case TupleType(items):
            return tuple(
                statement
                for position, item in enumerate(items)
                for statement in _compare(ir.Item(first, position), ir.Item(other, position), item, names)
            )
    return (_unless(ir.Operation("==", first, other)),)


def _unless(test: ir.Expression) -> ir.Statement:
    return ir.If(ir.negated(test), (_NO,))


def _same_length(first: ir.Expression, other: ir.Expression) -> ir.Statement:
    first, other = (ir.length(one) for one in (first, other))
    return _unless(ir.Operation("==", first, other))


def _pairs(
    names: tuple[ir.Name, ir.Name], lists: tuple[ir.Expression, ...], body: tuple[ir.Statement, ...]
) -> tuple[ir.Statement, ...]:
    """Returns the loop over the pairs of two lists, if it does anything."""
    return (ir.For(tuple(name.id for name in names), ir.call("zip", *lists), body),) if body else ()


def _lower_join(method: Method, dim: int, source_names: SourceNames) -> ir.Function:
    """Lowers the function that makes one call of many, or sends them one by one if they are not joinable."""
    calls, batch = parameters = crossing(method.many, source_names)
    names = source_names.scope(parameter.name for parameter in parameters)
    link, first, columns, call, rows, joined, pending = ir.variables(
        names, "link", "first", "columns", "call", "rows", "joined", "pending"
    )
    many = ir.Return(ir.called(link, method.many.name, ir.Name(calls.name), ir.Name(batch.name)))
    tensors = ir.call(source_names.tensors[method.name], call)
    alike = ir.call(source_names.alike[method.name], first, call)
    body: list[ir.Statement] = [
        ir.If(ir.Operation("==", ir.length(ir.Name(calls.name)), ir.Literal(0)), (many,)),
        ir.assign(first, ir.Item(ir.Name(calls.name), 0)),
        ir.new_list(columns, "List[List[Tensor]]"),
        ir.For(
            (call.id,),
            ir.Name(calls.name),
            (ir.If(ir.negated(alike), (many,)), ir.append(columns, tensors)),
        ),
        ir.assign(rows, ir.call("rows_of", columns, ir.Literal(dim))),
        ir.If(ir.Operation("==", ir.length(rows), ir.Literal(0)), (many,)),
        ir.assign(joined, ir.call("concatenated", columns, ir.Literal(dim))),
    ]
    values = []
    for position, argument in enumerate(method.arguments):
        statements, value = walk_tensors(ir.Item(first, position), argument.type, next_of(joined), names, source_names)
        body += statements
        values.append(value)
    body += [
        ir.assign(pending, ir.called(link, method.name, *values)),
        ir.Return(ir.Call(ir.FORK, (ir.Name(source_names.split[method.name]), link, pending, rows))),
    ]
    returns = future(source_names.wire(method.many.returns))
    return ir.Function(
        source_names.join[method.name], (ir.Parameter(link.id, "Link"), *parameters), returns, tuple(body)
    )


def _lower_split(interface: Interface, method: Method, dim: int, source_names: SourceNames) -> ir.Function:
    """Lowers the function that waits for the joined result, and cuts it into one for each call."""
    names = source_names.scope()
    link, pending, rows, received, results = ir.variables(names, "link", "pending", "rows", "received", "results")
    where = ir.Literal(f"{interface.name}.{method.name}")
    returns = source_names.wire(method.many.returns)
    body = (
        ir.Do(ir.called(link, WAIT_HERE, pending)),
        ir.assign(received, ir.called(pending, "wait")),
        ir.new_list(results, returns),
        *split_result(method, "cut", received, (rows, ir.Literal(dim), where), results, names, source_names),
        ir.Return(results),
    )
    parameters = (
        ir.Parameter(link.id, "Link"),
        ir.Parameter(pending.id, future(source_names.wire(method.returns))),
        ir.Parameter(rows.id, "List[int]"),
    )
    return ir.Function(source_names.split[method.name], parameters, returns, body)


def split_result(
    method: Method,
    cut: str,
    received: ir.Expression,
    given: tuple[ir.Name, ir.Expression, ir.Expression],
    results: ir.Name,
    names: Names,
    source_names: SourceNames,
) -> list[ir.Statement]:
    """Returns the statements that cut the packed result of one call into one for each call, and add them to `results`.

    Args:
        cut: the function that cuts a tensor: see runtime/batches.py.
        given: its last arguments. The first of them are the rows.
    """
    pieces, number, parts = ir.variables(names, "pieces", "number", "parts")

    def take(tensor: ir.Expression) -> ir.Expression:
        return ir.call(cut, tensor, pieces, *given)

    taking, _ = walk_tensors(received, method.returns, take, names, source_names)
    putting, result = walk_tensors(received, method.returns, next_of(parts), names, source_names)
    numbers = ir.call("range", ir.length(given[0]))
    each = (
        ir.assign(parts, ir.call("pieces_of", pieces, number)),
        *putting,
        ir.append(results, result),
    )
    return [
        ir.new_list(pieces, "List[List[Tensor]]"),
        *taking,
        ir.For((number.id,), numbers, each),
    ]
