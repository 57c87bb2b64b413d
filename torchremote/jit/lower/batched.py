"""Lowers the functions of the stub unit that join many calls of a batched method into one, and split its result."""

from __future__ import annotations

from ..read.model import Interface, Method
from ..read.types import TENSOR, ScalarType, TupleType
from . import ir
from .plan import wire_type
from .source_names import SourceNames
from .units import crossing, future


def lower_batched(interface: Interface, method: Method, source_names: SourceNames) -> tuple[ir.Function, ...]:
    """Lowers `joinable`, `split` and `join`, which makes one call of concatenated tensors if calls are joinable."""
    assert method.batched is not None
    return (
        _lower_joinable(interface, method, method.batched, source_names),
        _lower_split(interface, method, method.batched, source_names),
        _lower_join(method, method.batched, source_names),
    )


def _tensors(method: Method) -> list[int]:
    """Returns the positions of the arguments that are tensors."""
    return [position for position, argument in enumerate(method.arguments) if argument.type == TENSOR]


def _lower_joinable(interface: Interface, method: Method, dim: int, source_names: SourceNames) -> ir.Function:
    """Lowers the test: tensors can be concatenated along `dim`, and all other arguments are equal."""
    names = source_names.scope()
    calls, first, call, sizes = (ir.Name(names.fresh(name)) for name in ("calls", "first", "call", "sizes"))
    loop = []
    for position, argument in enumerate(method.arguments):
        one, other = ir.Item(first, position), ir.Item(call, position)
        test: ir.Expression = ir.Equal(one, other)
        if argument.type == TENSOR:
            where = ir.Literal(f"{interface.name}.{method.many.name}.{argument.name}")
            test = ir.Call(ir.Name("joins"), (one, other, ir.Literal(dim), sizes, where))
        elif argument.type == ScalarType("float"):
            test = ir.Call(ir.Name("same_float"), (one, other))
        loop.append(ir.If(ir.Not(test), (_NO,)))
    leading, *others = _tensors(method)
    for position in others:
        loop.append(ir.If(ir.Not(ir.Equal(_rows(call, leading, dim), _rows(call, position, dim))), (_NO,)))
    body = (
        ir.If(ir.Equal(ir.Call(ir.Name("len"), (calls,)), ir.Literal(0)), (_NO,)),
        ir.Assign((first.id,), ir.Item(calls, 0)),
        ir.Assign((sizes.id,), ir.ListOf((ir.Literal(0), ir.Literal(0)))),
        ir.For((call.id,), calls, tuple(loop)),
        ir.Return(ir.Literal(True)),
    )
    parameters = (ir.Parameter(calls.id, source_names.wire(method.many.arguments[0].type)),)
    return ir.Function(source_names.joinable[method.name], parameters, "bool", body)


_NO = ir.Return(ir.Literal(False))


def _rows(call: ir.Expression, position: int, dim: int) -> ir.Expression:
    """Returns the expression for the size, along `dim`, of a call's argument."""
    return ir.Call(ir.Attribute(ir.Item(call, position), "size"), (ir.Literal(dim),))


def _lower_join(method: Method, dim: int, source_names: SourceNames) -> ir.Function:
    """Lowers the function that makes one call of many, or sends them one by one if they are not joinable."""
    calls, batch = parameters = crossing(method.many, source_names)
    names = source_names.scope(parameter.name for parameter in parameters)
    link, rows, call, pending = (ir.Name(names.fresh(name)) for name in ("link", "rows", "call", "pending"))
    many = ir.Call(ir.Attribute(link, method.many.name), (ir.Name(calls.name), ir.Name(batch.name)))
    columns = {position: ir.Name(names.fresh(method.arguments[position].name)) for position in _tensors(method)}
    loop: list[ir.Statement] = [_append(rows, _rows(call, next(iter(columns)), dim))]
    values: list[ir.Expression] = []
    for position in range(len(method.arguments)):
        if position in columns:
            loop.append(_append(columns[position], ir.Item(call, position)))
            cat = ir.Attribute(ir.Name("torch"), "cat")
            values.append(ir.Call(cat, (columns[position], ir.Literal(dim))))
        else:
            values.append(ir.Item(ir.Item(ir.Name(calls.name), 0), position))
    body: tuple[ir.Statement, ...] = (
        ir.If(ir.Not(ir.Call(ir.Name(source_names.joinable[method.name]), (ir.Name(calls.name),))), (ir.Return(many),)),
        ir.Assign((rows.id,), ir.Empty("[]"), "List[int]"),
        *(ir.Assign((column.id,), ir.Empty("[]"), "List[Tensor]") for column in columns.values()),
        ir.For((call.id,), ir.Name(calls.name), tuple(loop)),
        ir.Assign((pending.id,), ir.Call(ir.Attribute(link, method.name), tuple(values))),
        ir.Return(ir.Call(ir.FORK, (ir.Name(source_names.split[method.name]), pending, rows))),
    )
    returns = future(source_names.wire(method.many.returns))
    return ir.Function(source_names.join[method.name], (ir.Parameter(link.id, "Link"), *parameters), returns, body)


def _lower_split(interface: Interface, method: Method, dim: int, source_names: SourceNames) -> ir.Function:
    """Lowers the function that waits for the joined result, and cuts it into one for each call."""
    names = source_names.scope()
    pending, rows, received, results = (
        ir.Name(names.fresh(name)) for name in ("pending", "rows", "received", "results")
    )
    where = ir.Literal(f"{interface.name}.{method.name}")

    def cut(joined: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("cut"), (joined, rows, ir.Literal(dim), where))

    body: list[ir.Statement] = [ir.Assign((received.id,), ir.Call(ir.Attribute(pending, "wait")))]
    returned = wire_type(method.returns)
    if isinstance(returned, TupleType):
        parts = [ir.Name(names.numbered("part")) for _ in returned.items]
        columns = [cut(ir.Item(received, position)) for position in range(len(parts))]
        grown = ir.Do(ir.Call(ir.Attribute(results, "append"), (ir.TupleOf(tuple(parts)),)))
        body += [
            ir.Assign((results.id,), ir.Empty("[]"), source_names.wire(method.many.returns)),
            ir.For(tuple(part.id for part in parts), ir.Call(ir.Name("zip"), tuple(columns)), (grown,)),
            ir.Return(results),
        ]
    else:
        body.append(ir.Return(cut(received)))
    parameters = (
        ir.Parameter(pending.id, future(source_names.wire(method.returns))),
        ir.Parameter(rows.id, "List[int]"),
    )
    return ir.Function(source_names.split[method.name], parameters, source_names.wire(method.many.returns), tuple(body))


def _append(column: ir.Name, value: ir.Expression) -> ir.Statement:
    return ir.Do(ir.Call(ir.Attribute(column, "append"), (value,)))
