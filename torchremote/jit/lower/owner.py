"""Lowers the units that run on an owner: the table of its modules, and the endpoints that calls run.

Note [One endpoint]
    A method has one endpoint, wherever its module is. It branches on the module's slot and on the flags that the call
    carries (runtime/tensors.py):

    * If the module is on an accelerator, tensors in the arguments move there. Results move back to the CPU, unless the
      caller has a device map to this worker. If the module is on the CPU, nothing moves.
    * If the caller's grad mode is off, the method runs without gradients, and no result requires one.

    So a module can move to another device while callers use it, and a stub need not know the device.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..read.model import Interface, Method
from ..runtime import definitions
from . import ir
from .convert import Converter, Direction
from .names import Names
from .plan import KEEP, plan_result, plan_stub, plan_tensors, wire_type
from .source_names import SourceNames
from .units import declare, endpoint, endpoint_name, renamed, scope_of, unit


def lower_table(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the owner's table, and of the interface through which endpoints call modules."""
    methods = []
    for method in interface.methods:
        parameters = tuple(ir.Parameter(part.name, source_names.declared(part.type)) for part in method.arguments)
        methods.append(declare(method.name, parameters, source_names.declared(method.returns)))
    name = f"{scope_of(interface)}.table.ModuleInterface"
    return unit(
        interface,
        "table",
        "The owner's table of modules.",
        ir.Interface("ModuleInterface", name, tuple(methods), of_modules=True),
        *definitions("table"),
    )


def lower_endpoints(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the functions that calls run on the owner: see Note [One endpoint]."""
    endpoints = []
    for method in interface.methods:
        endpoints.append(_lower_endpoint(interface, method, source_names))
        endpoints.append(_lower_many_endpoint(interface, method, source_names))
    return unit(interface, "endpoints", "The endpoints, which calls run on the owner.", *endpoints)


@dataclass(frozen=True)
class Callee:
    """The expressions, in the function around a call, for the module that is called, its device and the flags."""

    module: ir.Expression
    device: ir.Expression
    moves: ir.Expression | None  # whether the module is on an accelerator; None: nothing moves, wherever it is
    flags: ir.Expression


def _lower_endpoint(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the endpoint that runs one call of `method`."""
    names = source_names.scope()
    table, handle, flags = (names.fresh(name) for name in ("table", "handle", "flags"))
    parameters = renamed(method, names, [source_names.wire(argument.type) for argument in method.arguments])
    found, callee = _find(table, handle, flags, names)
    before, run, result = lower_run(interface, method, parameters, callee, names, source_names)
    kinds = {table: "Table", handle: "int", flags: "int"}
    return ir.Function(
        endpoint(method),
        (*(ir.Parameter(name, kind) for name, kind in kinds.items()), *parameters),
        source_names.wire(method.returns),
        (found, *before, *run, ir.Return(result)),
        endpoint=endpoint_name(interface, method),
    )


def _lower_many_endpoint(interface: Interface, method: Method, source_names: SourceNames) -> ir.Function:
    """Lowers the endpoint that runs many calls of `method`, in their order. It looks for the module once."""
    many = method.many
    names = source_names.scope()
    table, handle, flags, calls, batch = (names.fresh(name) for name in ("table", "handle", "flags", "calls", "batch"))
    found, callee = _find(table, handle, flags, names)
    results, call = (names.fresh(name) for name in ("results", "call"))
    parameters = renamed(method, names, [source_names.wire(argument.type) for argument in method.arguments])
    arguments = [
        ir.Assign((parameter.name,), ir.Item(ir.Name(call), index)) for index, parameter in enumerate(parameters)
    ]
    before, run, result = lower_run(interface, method, parameters, callee, names, source_names)
    position = ir.Concatenation(ir.Name(batch), ir.Call(ir.Name("len"), (ir.Name(results),)))
    loop = (
        ir.Do(ir.Call(ir.Name("note_progress"), (ir.Name(table), position))),
        *arguments,
        *run,
        ir.Do(ir.Call(ir.Attribute(ir.Name(results), "append"), (result,))),
    )
    kinds = {table: "Table", handle: "int", flags: "int", calls: source_names.wire(many.arguments[0].type)}
    returns = source_names.wire(many.returns)
    return ir.Function(
        endpoint(many),
        tuple(ir.Parameter(name, kind) for name, kind in {**kinds, batch: "int"}.items()),
        returns,
        (
            found,
            *before,
            ir.Assign((results,), ir.Empty("[]"), returns),
            ir.For((call,), ir.Name(calls), loop),
            ir.Return(ir.Name(results)),
        ),
        endpoint=endpoint_name(interface, many),
    )


def _find(table: str, handle: str, flags: str, names: Names) -> tuple[ir.Statement, Callee]:
    """Lowers the look-up of a module by its handle."""
    module, slot = ir.Name(names.fresh("module")), ir.Name(names.fresh("slot"))
    found = ir.Assign((module.id, slot.id), ir.Call(ir.Name("find"), (ir.Name(table), ir.Name(handle))))
    return found, Callee(module, ir.Attribute(slot, "device"), ir.Attribute(slot, "moves"), ir.Name(flags))


def lower_run(
    interface: Interface,
    method: Method,
    parameters: tuple[ir.Parameter, ...],
    callee: Callee,
    names: Names,
    source_names: SourceNames,
) -> tuple[list[ir.Statement], list[ir.Statement], ir.Expression]:
    """Lowers one call on the owner: it moves and unpacks the arguments, runs the method, and packs the result.

    Args:
        parameters: the packed arguments, as parameters of the function around the call. Moved tensors are assigned to
            them.
        names: the function's scope.

    Returns:
        The statements before the first call, those of each call, and the expression for the packed result.
    """
    body = _move_in(method, parameters, callee, names, source_names)
    inward = Converter(names, source_names, Direction.UNPACK)
    arguments = tuple(
        inward.convert(ir.Name(parameter.name), argument.type, plan, parameter.name, body)
        for parameter, argument, plan in zip(parameters, method.arguments, plan_stub(method).arguments, strict=True)
    )
    result = ir.Name(names.fresh("result"))
    call = ir.Assign((result.id,), ir.Call(ir.Attribute(callee.module, method.name), arguments))
    needs_grad = ir.Call(ir.Name("needs_grad"), (callee.flags,))
    body.append(ir.If(needs_grad, (call,), (ir.WithoutGradients((call,)),)))
    plan = plan_result(method)
    if plan == KEEP:
        return [], body, result
    changes = ir.Name(names.fresh("changes"))
    moves = ir.Literal(False) if callee.moves is None else callee.moves
    before: list[ir.Statement] = [
        ir.Assign((changes.id,), ir.Call(ir.Name("changes_of"), (callee.flags, moves))),
    ]
    where = ir.Literal(f"{interface.name}.{method.name}.return")

    def give_back(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("returned"), (tensor, changes, where))

    def give_back_any(value: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("returned_any"), (value, changes, where))

    outward = Converter(names, source_names, Direction.PACK, give_back, give_back_any)
    return before, body, outward.convert(result, method.returns, plan, "out", body)


def _move_in(
    method: Method, parameters: tuple[ir.Parameter, ...], callee: Callee, names: Names, source_names: SourceNames
) -> list[ir.Statement]:
    """Lowers the branch that moves the arguments' tensors to the module's device."""
    moves: list[ir.Statement] = []
    moving = Converter(
        names,
        source_names,
        Direction.UNPACK,
        lambda tensor: ir.Call(ir.Attribute(tensor, "to"), (callee.device,)),
        lambda value: ir.Call(ir.Name("move_any"), (value, callee.device)),
    )
    for parameter, argument, plan in zip(parameters, method.arguments, plan_tensors(method), strict=True):
        if plan != KEEP:
            name = ir.Name(parameter.name)
            moved = moving.convert(name, wire_type(argument.type), plan, parameter.name, moves)
            moves.append(ir.Assign((parameter.name,), moved))
    return [ir.If(callee.moves, tuple(moves))] if moves and callee.moves is not None else []
